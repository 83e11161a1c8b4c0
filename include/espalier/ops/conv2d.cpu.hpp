#pragma once

#include <espalier/cpu/fixed_order.hpp>
#include <espalier/cpu/gather.hpp>
#include <espalier/ops/conv2d_options.hpp>

namespace espalier::inline ESPALIER_BACKEND {

namespace detail {

/// The output of a convolution along an axis: one phase, taps first to last.
inline std::vector<kernels::Phase> forward_phases(Index outputs, Index taps, const Conv2dOptions& o) {
    kernels::Phase phase{0, 1, outputs, o.stride, {}};
    for (Index r = 0; r < taps; ++r) phase.taps.push_back({r * o.dilation - o.padding, r, r});
    return {phase};
}

/// The data gradient along an axis: input pixel h = p * stride + r * dilation - padding, so pixels of the same
/// h mod stride see the same taps, at p = (h + padding - r * dilation) / stride.
inline std::vector<kernels::Phase> backward_phases(Index extent, Index taps, const Conv2dOptions& o) {
    std::vector<kernels::Phase> phases;
    Index place = 0;
    for (Index a = 0; a < o.stride; ++a) {
        kernels::Phase phase{a, o.stride, extent > a ? (extent - a + o.stride - 1) / o.stride : 0, 1, {}};
        for (Index r = taps - 1; r >= 0; --r)
            if (const Index shift = a + o.padding - r * o.dilation; shift % o.stride == 0)
                phase.taps.push_back({shift / o.stride, r, place++});
        phases.push_back(std::move(phase));
    }
    return phases;
}

} // namespace detail

namespace kernels {

/// Plan of `conv2d` for x [N,H,W,C], w [K,R,S,C], y [N,P,Q,K]; `scratch()` is what it takes.
template <class T>
GatherPlan conv2d_plan(Cpu, View<const T, 4> x, View<const T, 4> w, const Conv2dOptions& o, View<T, 4> y) {
    return gather_plan(x, y, detail::forward_phases(y.size(1), w.size(1), o),
                       detail::forward_phases(y.size(2), w.size(2), o), {w.size(1), w.size(2)});
}

/// y = x convolved with w, plus b unless that is empty; one group.
template <class T>
void conv2d(Cpu on, const GatherPlan& plan, View<const T, 4> x, View<const T, 4> w, View<const T, 1> b,
            View<T, 1> scratch, View<T, 4> y) {
    const View<const T, 2> terms(w.data(), {plan.panel_rows, w.size(0)}, {1, w.stride(0)});
    parallel_for(panel_blocks<T>(w.size(0)),
                 [&](Index block) { pack_panel(terms, 0, plan.panel_rows, block, scratch.data()); });
    gather(on, plan, x, b, scratch, y);
}

/// Plan of `conv2d_data_gradient` for dy [N,P,Q,K], w [K,R,S,C], dx [N,H,W,C].
template <class T>
GatherPlan conv2d_data_gradient_plan(Cpu, View<const T, 4> dy, View<const T, 4> w, const Conv2dOptions& o,
                                     View<T, 4> dx) {
    return gather_plan(dy, dx, detail::backward_phases(dx.size(1), w.size(1), o),
                       detail::backward_phases(dx.size(2), w.size(2), o), {w.size(1), w.size(2)});
}

/// dx[n,h,w,c] = sum over the outputs p, q and taps r, s that read pixel h, w, and over k, of dy[n,p,q,k] * w[k,r,s,c].
template <class T>
void conv2d_data_gradient(Cpu on, const GatherPlan& plan, View<const T, 4> dy, View<const T, 4> w,
                          const Conv2dOptions& o, View<T, 1> scratch, View<T, 4> dx) {
    const auto rows = detail::backward_phases(dx.size(1), w.size(1), o);
    const auto columns = detail::backward_phases(dx.size(2), w.size(2), o);
    parallel_for(panel_blocks<T>(w.size(3)), [&](Index block) {
        for (const Phase& down : rows)
            for (const Tap& r : down.taps)
                for (const Phase& across : columns)
                    for (const Tap& s : across.taps) {
                        const View<const T, 2> terms(w.at(0, r.tap, s.tap), {w.size(0), w.size(3)}, {w.stride(0), 1});
                        pack_panel(terms, (r.place * w.size(2) + s.place) * w.size(0), plan.panel_rows, block,
                                   scratch.data());
                    }
    });
    gather(on, plan, dy, View<const T, 1>(nullptr, {0}), scratch, dx);
}

/// Elements of scratch that `conv2d_fixed_order` takes.
template <class T> Index conv2d_fixed_order_scratch(Cpu, View<const T, 4> w) {
    return w.size(1) * w.size(2) * w.size(3) * whole_vectors<T>(w.size(0));
}

/// As `conv2d`, each output adding its terms one by one in the order r, s, c, and the bias last.
template <class T>
void conv2d_fixed_order(Cpu, View<const T, 4> x, View<const T, 4> w, View<const T, 1> b, const Conv2dOptions& o,
                        View<T, 1> scratch, View<T, 4> y) {
    const Index terms = w.size(1) * w.size(2) * w.size(3), filters = w.size(0);
    const Index tap_size = w.size(3) * whole_vectors<T>(filters);
    fixed_order_rows(View<const T, 2>(w.data(), {terms, filters}, {1, w.stride(0)}), scratch.data());
    parallel_for(y.size(0) * y.size(1), [&](Index line) {
        const Index n = line / y.size(1), p = line % y.size(1);
        for (Index q = 0; q < y.size(2); ++q) {
            T* const to = y.at(n, p, q);
            std::fill_n(to, filters, T(0));
            for (Index r = 0; r < w.size(1); ++r) {
                const Index h = p * o.stride + r * o.dilation - o.padding;
                if (h < 0 || h >= x.size(1)) continue;
                for (Index s = 0; s < w.size(2); ++s) {
                    const Index v = q * o.stride + s * o.dilation - o.padding;
                    if (v < 0 || v >= x.size(2)) continue;
                    const T* const rows = scratch.data() + (r * w.size(2) + s) * tap_size;
                    add_terms(x.at(n, h, v), x.stride(3), w.size(3), rows, to, filters);
                }
            }
            for (Index k = 0; k < b.size(); ++k) to[k] += b(k);
        }
    });
}

} // namespace kernels
} // namespace espalier::inline ESPALIER_BACKEND
