#pragma once

#include <espalier/nn/network.hpp>
#include <espalier/ops/slice.hpp>

#include <array>
#include <cstddef>
#include <utility>

namespace espalier::inline ESPALIER_BACKEND {

/// A model whose `forward` takes several inputs, as one that takes a single row with all of them: whatever takes a
/// model (cost, plans, surgery, latency, export) then takes this one.
///
///     auto net = es::several_inputs(model, {{32, 32, 3}, {10}}); // an image, and ten numbers
///     auto plan = es::pruning::plan(net, net.image(), {.keep_macs = 0.5});
///     es::pruning::apply(plan, net, &optimizer);                 // cuts `model`
///
/// It shares parameters, names and mode with the model, which outlives it.
template <class M, std::size_t count> class SeveralInputs : public Module<typename M::Scalar> {
    using T = typename M::Scalar;

public:
    /// Inputs of these shapes, each without the batch: [H,W,C], or [C].
    SeveralInputs(M& model, const Shape (&shapes)[count]) : Module<T>(model), model_(model) {
        for (std::size_t i = 0; i < count; ++i) shapes_[i] = shapes[i];
    }

    /// Shape of an "image": one row, as long as all inputs together.
    Shape image() const {
        Index elements = 0;
        for (const Shape& shape : shapes_) elements += shape.size();
        return {elements};
    }
    /// x [N, elements of all inputs, one input after the other] -> what the model returns.
    /// @throws ShapeError  for a row of another length
    auto forward(const Var<T>& x) {
        expect(x.rank() == 2 && x.size(1) == image()[0], "SeveralInputs: expected x [N,", image()[0], "], got ",
               x.shape());
        return forward(x, std::make_index_sequence<count>());
    }

private:
    template <std::size_t... i> auto forward(const Var<T>& x, std::index_sequence<i...>) {
        std::array<Var<T>, count> inputs;
        Index begin = 0;
        for (std::size_t k = 0; k < count; ++k) {
            const Index end = begin + shapes_[k].size();
            inputs[k] = reshape(slice(x, 1, begin, end), batch_of(x.size(0), shapes_[k]));
            begin = end;
        }
        return model_.forward(inputs[i]...);
    }

    M& model_;
    std::array<Shape, count> shapes_;
};

/// As the constructor, which can't be told `count`.
template <class M, std::size_t count> SeveralInputs<M, count> several_inputs(M& model, const Shape (&shapes)[count]) {
    return {model, shapes};
}

} // namespace espalier::inline ESPALIER_BACKEND
