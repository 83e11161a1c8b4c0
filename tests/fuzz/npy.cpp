#include "fuzz.hpp"

#include <espalier/io/npy.hpp>

using namespace espalier;

namespace {

template <class T> void read_as(const std::string& path, std::size_t size) {
    for (const Precision precision : {Precision::exact, Precision::converted}) {
        const auto array = fuzz::read([&] { return read_npy<T>(path, precision); });
        if (!array) continue;
        fuzz::require(array->size() <= static_cast<Index>(size));
        const std::string copy = (fuzz::folder() / "copy.npy").string();
        write_npy(copy, *array);
        const Tensor<T> again = read_npy<T>(copy);
        fuzz::require(again.shape() == array->shape());
        fuzz::require(again.size() == 0 ||
                      std::memcmp(again.data(), array->data(), sizeof(T) * std::size_t(again.size())) == 0);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string path = fuzz::write("array.npy", data, data + size);
    read_as<float>(path, size);
    read_as<double>(path, size);
    read_as<Index>(path, size);
    read_as<std::uint8_t>(path, size);
    return 0;
}
