#include "scores.hpp"

#include <espalier/pruning/filter_norm.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE_TEMPLATE("filter_norm: norms by hand", T, float, double) {
    Chain<T> model;
    fill_filter(model.a.conv.weight, 2, T(-0.5)); // 27 elements, one of which becomes -2
    model.a.conv.weight.mutable_value().set(T(-2), 2, 1, 1, 1);
    const auto norm = [&](SliceNorm kind) { return scores(model, FilterNorm{.norm = kind}, "a.conv")[2]; };
    CHECK(norm(SliceNorm::l1) == 15);           // 26 * 0.5 + 2, exact in either type
    CHECK(norm(SliceNorm::squared_l2) == 10.5); // 26 * 0.25 + 4
    CHECK(norm(SliceNorm::l2) == std::sqrt(10.5));
    CHECK(norm(SliceNorm::linf) == 2);
    for (const T bad : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()}) {
        model.a.conv.weight.mutable_value().set(bad, 2, 0, 0, 1);
        for (const SliceNorm kind : {SliceNorm::l1, SliceNorm::l2, SliceNorm::squared_l2, SliceNorm::linf})
            CHECK(std::isnan(norm(kind)) == (bad != bad));
    }
}

TEST_CASE("filter_norm: names say what is not the default") {
    CHECK(FilterNorm{}.name() == "filter l1");
    CHECK(FilterNorm{.norm = SliceNorm::squared_l2}.name() == "filter squared l2");
    CHECK(FilterNorm{.norm = SliceNorm::linf, .combine = Combine::max}.name() == "filter linf of makes, max");
    CHECK(FilterNorm{.norm = SliceNorm::l2, .roles = {ChannelRole::makes, ChannelRole::eats}}.name() ==
          "filter l2 of makes+eats, mean");
    CHECK(BatchNormScale{}.name() == "batch-norm scale");
    CHECK(BatchNormScale{.combine = Combine::sum}.name() == "batch-norm scale of scales, sum");
    CHECK(FoldedNorm{}.name() == "batch-norm-folded l2");
    CHECK(FoldedNorm{.combine = Combine::first}.name() == "batch-norm-folded l2 of makes, first");
}

TEST_CASE_TEMPLATE("filter_norm: what dependency-graph pruning counts", T, float, double) {
    // Mean over the layers of a group of the sum of squares of all that a channel has there: filter, batch norm's
    // scale, and the 16 columns of a linear layer behind a flatten together.
    Flattened<T> model;
    shake(model);
    const auto got = scores(model,
                            FilterNorm{.norm = SliceNorm::squared_l2,
                                       .roles = {ChannelRole::makes, ChannelRole::scales, ChannelRole::eats}},
                            "a.conv");
    REQUIRE(got.size() == 6);
    for (Index c = 0; c < 6; ++c) {
        double filter = 0, columns = 0;
        for (Index i = 0; i < 27; ++i)
            filter += std::pow(static_cast<double>(model.a.conv.weight.value().data()[c * 27 + i]), 2);
        const double scale = std::pow(static_cast<double>(model.a.bn.gamma.value().at(c)), 2);
        for (Index k = 0; k < 10; ++k)
            for (Index pixel = 0; pixel < 16; ++pixel)
                columns += std::pow(static_cast<double>(model.hidden.weight.value().at(k, pixel * 6 + c)), 2);
        CHECK(got[static_cast<std::size_t>(c)] == doctest::Approx((filter + scale + columns) / 3));
    }
}

TEST_CASE("filter_norm: batch-norm scale, and none where there is no batch norm") {
    Chain<double> model;
    model.a.bn.gamma.mutable_value().set(-0.25, 3);
    CHECK(scores(model, BatchNormScale{}, "a.conv")[3] == 0.25);
    Flattened<double> flattened;
    CHECK(std::isnan(scores(flattened, BatchNormScale{}, "hidden")[0]));
}

TEST_CASE("filter_norm: scales of a stream by rule") {
    Residual<double> model;
    model.stem.bn.gamma.mutable_value().set(3, 2);
    model.one.b.bn.gamma.mutable_value().set(-5, 2);
    CHECK(scores(model, BatchNormScale{}, "stem.conv")[2] == 2.5); // (3 + 5 + 1 + 1) / 4
    CHECK(scores(model, BatchNormScale{.combine = Combine::max}, "stem.conv")[2] == 5);
    CHECK(scores(model, BatchNormScale{.combine = Combine::first}, "stem.conv")[2] == 3);
    CHECK(scores(model, BatchNormScale{.combine = Combine::product}, "stem.conv")[2] == 15);
}

TEST_CASE("filter_norm: folding batch norm in changes the order") {
    Chain<double> model;
    fill_filter(model.a.conv.weight, 0, 1.0);
    fill_filter(model.a.conv.weight, 1, 0.1);
    model.a.bn.gamma.mutable_value().set(-0.5, 0);
    model.a.bn.running_var.mutable_value().set(25.0, 0);
    model.a.bn.running_var.mutable_value().set(0.01, 1);
    const auto folded = scores(model, FoldedNorm{}, "a.conv");
    CHECK(folded[0] == doctest::Approx(0.5 * std::sqrt(27.0) / std::sqrt(25.00001)));
    CHECK(folded[1] == doctest::Approx(0.1 * std::sqrt(27.0) / std::sqrt(0.01001)));
    Flattened<double> flattened; // a linear layer without batch norm counts by its own norm
    CHECK(scores(flattened, FoldedNorm{}, "hidden") == scores(flattened, FilterNorm{.norm = SliceNorm::l2}, "hidden"));
    Residual<double> stream;
    CHECK(scores(stream, FoldedNorm{.combine = Combine::sum}, "stem.conv")[0] ==
          doctest::Approx(4 * scores(stream, FoldedNorm{}, "stem.conv")[0]));
}
