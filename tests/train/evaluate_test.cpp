#include "support/check.hpp"

#include <espalier/data/synthetic.hpp>
#include <espalier/train/evaluate.hpp>

using namespace espalier;
using namespace espalier::test;

namespace {

/// Always votes for class 1, by a margin of 1.
struct Constant : Module<double> {
    Index calls = 0;
    Var<double> forward(const Var<double>& x) {
        CHECK(mode() == Mode::inference);
        CHECK_FALSE(detail::grad_enabled());
        ++calls;
        Tensor<double> logits = Tensor<double>::zeros({x.size(0), 4});
        for (Index n = 0; n < x.size(0); ++n) logits.set(1, n, 1);
        return Var<double>(logits);
    }
};

} // namespace

TEST_CASE("evaluate: accuracy and loss are means over images, whatever the batches, and the mode comes back") {
    const ImageSet set = data::synthetic({.count = 10, .classes = 4}); // class 1: images 1, 5 and 9
    for (const Index size : {1, 3, 10, 64}) {
        Constant net;
        const Evaluation result = evaluate(net, Loader<double>(set, {.size = size}));
        CHECK(result.images == 10);
        CHECK(result.accuracy == doctest::Approx(0.3));
        CHECK(result.loss == doctest::Approx(std::log(std::exp(1.0) + 3) - 0.3).epsilon(1e-12));
        CHECK(net.calls == (10 + size - 1) / size);
        CHECK(net.mode() == Mode::training);
    }
    Constant net;
    net.eval();
    evaluate(net, Loader<double>(set, {}));
    CHECK(net.mode() == Mode::inference);
}

TEST_CASE("evaluate: no images are an error, which leaves the mode as it was") {
    Constant net;
    CHECK_THROWS_WITH_AS(evaluate(net, Loader<double>(data::synthetic({.count = 0}), {})),
                         doctest::Contains("at least one image"), StateError);
    CHECK(net.mode() == Mode::training);
}
