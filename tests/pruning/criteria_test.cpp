#include "networks.hpp"

#include <espalier/pruning/criteria.hpp>

#include <cmath>
#include <limits>

using namespace espalier;
using namespace espalier::test;

namespace {
template <class M, class C> std::vector<double> scores(M& model, const C& criterion, const std::string& group) {
    using T = typename M::Scalar;
    const auto graph = pruning::channel_graph(model, {4, 4, 3});
    const auto score = pruning::Criterion<T>(criterion).prepare(graph);
    for (const auto& g : graph.groups())
        if (g.name == group) {
            std::vector<double> all;
            for (const auto& channel : g.channels) all.push_back(score(channel));
            return all;
        }
    FAIL("no group ", group);
    return {};
}
void fill_filter(Var<double> weight, Index k, double value) {
    const Index inner = weight.size() / weight.size(0);
    std::fill_n(weight.mutable_value().mutable_data() + k * inner, inner, value);
}
} // namespace

TEST_CASE("criteria: filter norms by hand") {
    Chain<double> model;
    fill_filter(model.a.conv.weight, 2, -0.5); // 27 elements
    CHECK(scores(model, FilterNorm{1}, "a.conv")[2] == doctest::Approx(13.5));
    CHECK(scores(model, FilterNorm{2}, "a.conv")[2] == doctest::Approx(0.5 * std::sqrt(27.0)));
    CHECK_THROWS_AS(scores(model, FilterNorm{3}, "a.conv"), ShapeError);
}

TEST_CASE("criteria: batch-norm scale, and none where there is no batch norm") {
    Chain<double> model;
    model.a.bn.gamma.mutable_value().set(-0.25, 3);
    CHECK(scores(model, BatchNormScale{}, "a.conv")[3] == 0.25);
    Flattened<double> flattened;
    CHECK(std::isnan(scores(flattened, BatchNormScale{}, "hidden")[0]));
}

TEST_CASE("criteria: folding batch norm in changes the order") {
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
    CHECK(scores(flattened, FoldedNorm{}, "hidden") == scores(flattened, FilterNorm{2}, "hidden"));
}

TEST_CASE("criteria: a stream's channel scores the mean of the filters that make it") {
    Residual<double> model;
    const auto stream = scores(model, FilterNorm{1}, "stem.conv");
    double sum = 0;
    for (const Var<double>& w :
         {model.stem.conv.weight, model.one.b.conv.weight, model.two.b.conv.weight, model.three.b.conv.weight})
        pruning::each_of_slice(w.value(), 0, 5, [&](double v) { sum += std::abs(v); });
    CHECK(stream[5] == doctest::Approx(sum / 4));
}

TEST_CASE("criteria: the activation peak finds filters that relu silences, whatever their norm") {
    Chain<double> model;
    shake(model);
    model.a.bn.beta.mutable_value().set(-1e6, 4); // a large filter, never above zero
    const auto images = random_tensor<double>({3, 4, 4, 3});
    const auto peaks = scores(model, ActivationPeak{model, images}, "a.conv");
    CHECK(peaks[4] == 0);
    model.eval();
    const Tensor<double> y = model.a.forward(Var<double>(images)).value();
    for (Index c = 0; c < 8; ++c) {
        double peak = 0;
        for (Index i = c; i < y.size(); i += 8) peak = std::max(peak, y.data()[i]);
        CHECK(peaks[static_cast<std::size_t>(c)] == doctest::Approx(peak));
    }
}

TEST_CASE("criteria: random scores depend on the seed only") {
    Chain<double> model;
    CHECK(scores(model, RandomScore{1}, "b") == scores(model, RandomScore{1}, "b"));
    CHECK(scores(model, RandomScore{1}, "b") != scores(model, RandomScore{2}, "b"));
}

TEST_CASE("criteria: a user's own is ten lines") {
    struct LargestWeight {
        std::string name() const { return "largest weight"; }
        pruning::Score<double> prepare(const pruning::ChannelGraph<double>&) const {
            return [](const pruning::Channel<double>& channel) {
                double largest = 0;
                for (const auto& m : channel.members)
                    if (m.role == ChannelRole::makes)
                        pruning::each_of_slice(m.variable.value(), m.axis, m.entry,
                                               [&](double v) { largest = std::max(largest, std::abs(v)); });
                return largest;
            };
        }
    };
    Chain<double> model;
    fill_filter(model.b.weight, 1, 7);
    CHECK(scores(model, LargestWeight{}, "b")[1] == 7);
}
