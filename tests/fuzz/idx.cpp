// The input: a byte that says how long the labels are, the file of the labels, the file of the images.

#include "fuzz.hpp"

#include <espalier/data/idx.hpp>

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::uint8_t* const end = data + size;
    const std::uint8_t* const labels = size > 0 ? data + 1 : data;
    const std::uint8_t* const images = size > 0 ? labels + std::min<std::size_t>(data[0], size - 1) : data;
    fuzz::write("t10k-labels-idx1-ubyte", labels, images);
    const std::string path = fuzz::write("t10k-images-idx3-ubyte", images, end);
    if (const auto set = fuzz::read([] { return data::Mnist(fuzz::folder(), Split::test); })) set->check("fuzz");
    for (const int rank : {1, 2, 6})
        if (const auto tensor = fuzz::read([&] { return read_idx(path, rank); }))
            fuzz::require(tensor->rank() == rank && tensor->size() + 4 + 4 * rank == end - images);
    return 0;
}
