#include "support/check.hpp"

#include <espalier/cpu/map_rows.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("map_rows: a window has zeros around the map", T, float, double) {
    const auto x = random_tensor<T>({3, 4, 5, 6});
    const auto rows = kernels::map_rows(view<4>(x));
    for (const Index pitch : {Index(6), whole_vectors<T>(6), whole_vectors<T>(6) + 16})
        for (const Index top : {-2, 0, 3}) {
            constexpr Index height = 3, width = 9, left = 2;
            std::vector<T> window(static_cast<std::size_t>(2 * height * width * pitch),
                                  std::numeric_limits<T>::quiet_NaN());
            kernels::read_window(rows, 1, 3, top, height, left, width, pitch, window.data());
            const T* at = window.data();
            for (Index n = 1; n < 3; ++n)
                for (Index h = top; h < top + height; ++h)
                    for (Index v = -left; v < width - left; ++v)
                        for (Index c = 0; c < pitch; ++c, ++at) {
                            const bool inside = h >= 0 && h < 4 && v >= 0 && v < 5;
                            if (inside && c >= 6) continue; // arbitrary
                            CHECK(*at == (inside ? x.at(n, h, v, c) : T(0)));
                        }
        }
}

TEST_CASE("map_rows: a map with gaps between pixels, written densely") {
    const auto x = random_tensor<float>({2, 3, 4, 6});
    const View<const float, 4> some(x.data() + 1, {2, 3, 4, 2}, {72, 24, 6, 1});
    Tensor<float> y({2, 3, 4, 2});
    kernels::write_map(Cpu{}, kernels::map_rows(some), mutable_view<4>(y));
    for (Index n = 0; n < 2; ++n)
        for (Index h = 0; h < 3; ++h)
            for (Index v = 0; v < 4; ++v)
                for (Index c = 0; c < 2; ++c) CHECK(y.at(n, h, v, c) == x.at(n, h, v, c + 1));
}
