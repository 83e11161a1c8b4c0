#include "fuzz.hpp"

#include <espalier/data/file.hpp>

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string path = fuzz::write("bytes.gz", data, data + size);
    if (const auto file = fuzz::read([&] { return read_file(path); }))
        fuzz::require(file->unpacked &&
                      file->size() <= 1040 * static_cast<Index>(size)); // deflate's best ratio is 1032
    return 0;
}
