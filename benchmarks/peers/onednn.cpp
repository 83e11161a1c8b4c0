// Convolutions of oneDNN, in the process of kernels.cpp and so with the same threads. Each primitive takes the layouts
// it likes best ("any"); reorders into and out of them are not timed, which is more than a framework could give it.

#include "../kernels.hpp"

#include <espalier/core/error.hpp>

#ifdef ESPALIER_WITH_ONEDNN

#include <oneapi/dnnl/dnnl.hpp>

#include <memory>
#include <unordered_map>

namespace espalier::bench {
namespace {

using Tag = dnnl::memory::format_tag;
using Desc = dnnl::memory::desc;

const dnnl::engine& engine() {
    static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
    return cpu;
}
dnnl::stream& stream() {
    static dnnl::stream one(engine());
    return one;
}

/// oneDNN's order of extents is [N,C,H,W] whatever the layout: of a map, of filters, and of what is ours [A,B,B,D].
dnnl::memory::dims extents(const Tensor<float>& t) {
    const Shape& s = t.shape();
    return {s[0], s[3], s[1], s[2]};
}
Desc any(const Tensor<float>& t) { return {extents(t), dnnl::memory::data_type::f32, Tag::any}; }
/// Our memory as oneDNN sees it.
dnnl::memory wrapped(const Tensor<float>& t) {
    return {Desc(extents(t), dnnl::memory::data_type::f32, Tag::acdb), engine(), const_cast<float*>(t.data())};
}

/// A primitive with the memory of each set; argument `wanted` is what it writes.
struct Call {
    dnnl::primitive primitive;
    std::vector<std::unordered_map<int, dnnl::memory>> sets;
    int wanted;
    Shape result;
};

Call make_call(const dnnl::primitive& primitive, int wanted, const Shape& result,
               const std::unordered_map<int, Desc>& layouts, const std::unordered_map<int, Tensor<float>>& values,
               Index sets) {
    Call call{primitive, {}, wanted, result};
    for (Index set = 0; set < sets; ++set) {
        auto& arguments = call.sets.emplace_back();
        for (const auto& [argument, layout] : layouts) {
            dnnl::memory memory(layout, engine());
            if (const auto value = values.find(argument); value != values.end()) {
                dnnl::memory from = wrapped(value->second);
                dnnl::reorder(from, memory).execute(stream(), from, memory);
            }
            arguments.emplace(argument, memory);
        }
    }
    stream().wait();
    return call;
}

/// @throws dnnl::error if oneDNN has no such algorithm for this shape
Call convolution(const ConvolutionInputs& in, dnnl::algorithm algorithm, Index sets) {
    const dnnl::memory::dims strides{in.options.stride, in.options.stride};
    const dnnl::memory::dims padding{in.options.padding, in.options.padding};
    const Desc x = any(in.x), w = any(in.w), y = any(in.dy);
    const auto forward = [&](dnnl::algorithm by) {
        return dnnl::convolution_forward::primitive_desc(
            {dnnl::prop_kind::forward_training, by, x, w, y, strides, padding, padding}, engine());
    };
    if (in.direction == "forward") {
        const auto pd = forward(algorithm);
        return make_call(
            dnnl::convolution_forward(pd), DNNL_ARG_DST, in.dy.shape(),
            {{DNNL_ARG_SRC, pd.src_desc()}, {DNNL_ARG_WEIGHTS, pd.weights_desc()}, {DNNL_ARG_DST, pd.dst_desc()}},
            {{DNNL_ARG_SRC, in.x}, {DNNL_ARG_WEIGHTS, in.w}}, sets);
    }
    const auto hint = forward(dnnl::algorithm::convolution_direct);
    if (in.direction == "data") {
        const dnnl::convolution_backward_data::primitive_desc pd({algorithm, x, w, y, strides, padding, padding},
                                                                 engine(), hint);
        return make_call(dnnl::convolution_backward_data(pd), DNNL_ARG_DIFF_SRC, in.x.shape(),
                         {{DNNL_ARG_DIFF_SRC, pd.diff_src_desc()},
                          {DNNL_ARG_WEIGHTS, pd.weights_desc()},
                          {DNNL_ARG_DIFF_DST, pd.diff_dst_desc()}},
                         {{DNNL_ARG_DIFF_DST, in.dy}, {DNNL_ARG_WEIGHTS, in.w}}, sets);
    }
    const dnnl::convolution_backward_weights::primitive_desc pd({algorithm, x, w, y, strides, padding, padding},
                                                                engine(), hint);
    return make_call(dnnl::convolution_backward_weights(pd), DNNL_ARG_DIFF_WEIGHTS, in.w.shape(),
                     {{DNNL_ARG_SRC, pd.src_desc()},
                      {DNNL_ARG_DIFF_WEIGHTS, pd.diff_weights_desc()},
                      {DNNL_ARG_DIFF_DST, pd.diff_dst_desc()}},
                     {{DNNL_ARG_SRC, in.x}, {DNNL_ARG_DIFF_DST, in.dy}}, sets);
}

} // namespace

std::vector<Variant> onednn_convolutions(const ConvolutionInputs& inputs, Index sets) {
    std::vector<Variant> variants;
    for (const auto& [name, algorithm] : {std::pair("oneDNN direct", dnnl::algorithm::convolution_direct),
                                          std::pair("oneDNN Winograd", dnnl::algorithm::convolution_winograd)}) {
        std::shared_ptr<Call> call;
        try {
            call = std::make_shared<Call>(convolution(inputs, algorithm, sets));
        } catch (const dnnl::error&) {
            continue; // no such algorithm for this shape, direction and instruction set
        }
        variants.push_back({name,
                            [call](Index set) {
                                call->primitive.execute(stream(), call->sets[static_cast<std::size_t>(set)]);
                                stream().wait();
                            },
                            [call] {
                                const Tensor<float> result(call->result);
                                dnnl::memory from = call->sets[0].at(call->wanted), to = wrapped(result);
                                dnnl::reorder(from, to).execute(stream(), from, to);
                                stream().wait();
                                return std::vector<std::pair<std::string, Tensor<float>>>{{"result", result}};
                            }});
    }
    return variants;
}

std::string onednn_version() {
    const dnnl_version_t& version = *dnnl::version();
    const auto isa = dnnl::get_effective_cpu_isa();
    const char* const name = isa == dnnl::cpu_isa::sse41       ? "SSE4.1"
                             : isa == dnnl::cpu_isa::avx       ? "AVX"
                             : isa == dnnl::cpu_isa::avx2      ? "AVX2"
                             : isa == dnnl::cpu_isa::avx2_vnni ? "AVX2"
                                                               : "AVX-512";
    return join_text(version.major, ".", version.minor, ".", version.patch, " (", name, ")");
}

} // namespace espalier::bench

#else

namespace espalier::bench {
std::vector<Variant> onednn_convolutions(const ConvolutionInputs&, Index) { return {}; }
std::string onednn_version() { return "not in this build: Debian's libdnnl-dev brings version 2"; }
} // namespace espalier::bench

#endif
