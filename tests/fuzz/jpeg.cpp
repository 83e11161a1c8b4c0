#include "fuzz.hpp"

#include <espalier/data/jpeg.hpp>

#include <vector>

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string path = fuzz::write("image.jpg", data, data + size);
    std::vector<std::uint8_t> pixels(8 * 16 * 3); // exactly as long as promised, for the address sanitizer
    fuzz::read([&] {
        read_jpeg(path, View<std::uint8_t, 3>(pixels.data(), {8, 16, 3}));
        return true;
    });
    return 0;
}
