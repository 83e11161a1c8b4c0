#include "fuzz.hpp"

#include <espalier/data/image_cache.hpp>

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string path = fuzz::write("images.cache", data, data + size);
    constexpr std::uint64_t source = 7;
    for (const Shape& shape : {Shape{2, 2, 3, 3}, Shape{0, 64, 64, 3}}) {
        Index made = 0;
        const auto images = fuzz::read([&] {
            return cached_images(path, source, shape, [&](View<std::uint8_t, 4> pixels) {
                ++made;
                std::fill_n(pixels.data(), pixels.size(), std::uint8_t(1));
            });
        });
        fuzz::require(images && images->shape() == shape);
        // What was made is found again, whatever was there before.
        const auto found = detail::read_image_cache(path, source, shape);
        fuzz::require(found && std::equal(found->begin(), found->end(), images->begin()));
        if (made == 0) fuzz::require(size == 64 + static_cast<std::size_t>(shape.size()));
    }
    return 0;
}
