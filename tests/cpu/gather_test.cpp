#include <espalier/cpu/gather.hpp>

#include "support/check.hpp"

using namespace espalier;
using namespace espalier::test;

TEST_CASE("Phase: what the outputs read") {
    const kernels::Phase phase{0, 1, 4, 2, {{-1, 0, 0}, {0, 1, 1}, {1, 2, 2}}}; // 3 taps, stride 2, padding 1
    CHECK(phase.span(4) == 9);
    CHECK(phase.inside(0, phase.taps[0], 8) == false);
    CHECK(phase.inside(3, phase.taps[2], 8) == true);
    CHECK(phase.inside(8) == 11); // 12 pairs, the first tap of the first output lies outside
}

TEST_CASE_TEMPLATE("copy_window: inside copied, outside zero, strided channels gathered", T, float, double) {
    const auto x = random_tensor<T>({2, 3, 4, 6});
    for (const Index channels : {6, 3}) {
        const View<const T, 4> view(x.data() + 1 - (channels == 6), {2, 3, 4, channels}, {72, 24, 6, 1});
        auto window = Tensor<T>::full({2, 5, 7, channels}, T(9));
        kernels::copy_window(view, 0, 2, -1, 5, -2, 7, window.mutable_data());
        for (Index n = 0; n < 2; ++n)
            for (Index h = 0; h < 5; ++h)
                for (Index v = 0; v < 7; ++v)
                    for (Index c = 0; c < channels; ++c) {
                        const bool inside = h >= 1 && h < 4 && v >= 2 && v < 6;
                        CHECK(window.at(n, h, v, c) == (inside ? view(n, h - 1, v - 2, c) : T(0)));
                    }
    }
    auto outside = Tensor<T>::full({1, 2, 2, 6}, T(9));
    kernels::copy_window(view<4>(x), 0, 1, 3, 2, 4, 2, outside.mutable_data()); // right of and below the map
    for (const T v : outside) CHECK(v == T(0));
}

TEST_CASE("gather_plan: small maps of many images go by position, large ones by rows") {
    const Tensor<float> x({8, 4, 4, 5}), wide({2, 60, 60, 50});
    Tensor<float> y({8, 4, 4, 3}), wide_y({2, 60, 60, 3});
    const auto phases = [](Index outputs) {
        return std::vector<kernels::Phase>{{0, 1, outputs, 1, {{-1, 0, 0}, {0, 1, 1}, {1, 2, 2}}}};
    };
    const auto small = kernels::gather_plan(view<4>(x), mutable_view<4>(y), phases(4), phases(4), {3, 3});
    REQUIRE(small.parts.size() == 1);
    CHECK(small.parts[0].order == kernels::GatherPart::Order::positions);
    CHECK(small.parts[0].ends.size() == 16);
    CHECK(small.window == 0);
    const auto large = kernels::gather_plan(view<4>(wide), mutable_view<4>(wide_y), phases(60), phases(60), {3, 3});
    REQUIRE(large.parts.size() == 1);
    CHECK(large.parts[0].order == kernels::GatherPart::Order::rows);
    CHECK(large.parts[0].copies);
    CHECK(large.parts[0].height < 60);
    CHECK(large.parts[0].runs.size() == 3); // the taps of a row are neighbours
    CHECK(large.panel_rows == 9 * 50);
}

TEST_CASE("gather_plan: phases of large maps share their bands") {
    const Tensor<float> x({8, 16, 16, 32}), small({8, 4, 4, 32});
    Tensor<float> y({8, 31, 32, 16}), small_y({8, 8, 8, 16});
    const auto phases = [](Index outputs) { // of the data gradient of 3 taps, stride 2, padding 1
        return std::vector<kernels::Phase>{{0, 2, (outputs + 1) / 2, 1, {{0, 1, 0}}},
                                           {1, 2, outputs / 2, 1, {{0, 2, 1}, {1, 0, 2}}}};
    };
    const auto plan = kernels::gather_plan(view<4>(x), mutable_view<4>(y), phases(31), phases(32), {3, 3});
    REQUIRE(plan.parts.size() == 4);
    CHECK(plan.together);
    for (const auto& part : plan.parts) {
        CHECK(part.order == kernels::GatherPart::Order::rows);
        CHECK(part.copies);
        CHECK(part.down() == 1);
        CHECK(part.read_rows.span(16) == 17);
    }
    CHECK(plan.window == plan.parts[0].images * 17 * 17 * 32);
    CHECK(plan.parts[3].x_at.size() == static_cast<std::size_t>(plan.parts[3].images * 15 * 16));
    const auto apart = kernels::gather_plan(view<4>(small), mutable_view<4>(small_y), phases(8), phases(8), {3, 3});
    CHECK_FALSE(apart.together);
    CHECK(apart.parts[0].order == kernels::GatherPart::Order::rows);
    CHECK(apart.parts[3].order == kernels::GatherPart::Order::positions);
}

TEST_CASE("gather_streams: large outputs whose pixels are whole lines") {
    const auto streams = [](const Shape& shape) {
        Tensor<float> y(shape);
        return kernels::gather_streams(mutable_view<4>(y));
    };
    CHECK_FALSE(streams({1, 90, 90, 64}));
    CHECK(streams({1, 91, 91, 64}) == (kernels::block_width<float> >= 16));
    CHECK_FALSE(streams({1, 91, 91, 61}));
    Tensor<float> wide({1, 91, 91, 128});
    const View<float, 4> half(wide.mutable_data(), {1, 91, 91, 64}, {91 * 91 * 128, 91 * 128, 128, 1});
    CHECK_FALSE(kernels::gather_streams(half));
}

TEST_CASE_TEMPLATE("ask_for_band: some of the input of any band", T, float, double) {
    const Tensor<T> x({3, 40, 33, 64});
    Tensor<T> y({3, 40, 33, 8});
    const std::vector<kernels::Phase> rows{{0, 1, 40, 1, {{-1, 0, 0}, {0, 1, 1}, {1, 2, 2}}}};
    const std::vector<kernels::Phase> columns{{0, 1, 33, 1, {{-1, 0, 0}, {0, 1, 1}, {1, 2, 2}}}};
    const auto plan = kernels::gather_plan(view<4>(x), mutable_view<4>(y), rows, columns, {3, 3});
    const kernels::GatherPart& part = plan.parts[0];
    REQUIRE(part.images == 1);
    REQUIRE(part.down() > 1);
    const Index row = 33 * 64 * static_cast<Index>(sizeof(T));
    for (Index band = 0; band < part.bands(3); ++band) {
        kernels::ReadAhead ahead;
        kernels::ask_for_band(part, view<4>(x), band, ahead);
        const Index i = band % part.down() * part.height; // one row above and one below, where there are such
        CHECK(ahead.left() == (std::min<Index>(40, i + part.height + 1) - std::max<Index>(0, i - 1)) * row);
    }
}
