#pragma once

#include <espalier/tensor/swap_axes.hpp>

#ifndef ONNX_ML // how Debian builds the library, which its headers do not say
#define ONNX_ML 1
#define ONNX_NAMESPACE onnx
#endif
#include <onnx/onnx_pb.h>

#include <string>
#include <vector>

// Not part of espalier.hpp: needs ONNX and protobuf, which the CMake target espalier::onnx brings.

namespace espalier::inline ESPALIER_BACKEND {
namespace detail {

/// [..,H,W,C] to [..,C,H,W]
inline Tensor<double> channels_first(const Tensor<double>& from) {
    Shape to = from.shape();
    const Index H = from.size(-3), W = from.size(-2), C = from.size(-1);
    to[-3] = C;
    to[-2] = H;
    to[-1] = W;
    return swap_axes(from.reshape({to.product(0, to.rank() - 3), H * W, C})).reshape(to);
}

/// Values as floats under a name.
inline void fill_tensor(onnx::TensorProto& tensor, const std::string& name, const Shape& shape,
                        const Tensor<double>& values) {
    tensor.set_name(name);
    tensor.set_data_type(onnx::TensorProto::FLOAT);
    for (const Index extent : shape) tensor.add_dims(extent);
    const Tensor<float> floats = values.cast<float>();
    tensor.set_raw_data(floats.data(), static_cast<std::size_t>(floats.size()) * sizeof(float));
}

inline onnx::AttributeProto& add_attribute(onnx::NodeProto& node, const char* name,
                                           onnx::AttributeProto::AttributeType type) {
    onnx::AttributeProto& made = *node.add_attribute();
    made.set_name(name);
    made.set_type(type);
    return made;
}
/// Names a number or a list for a node.
/// @{
inline void set_attribute(onnx::NodeProto& node, const char* name, Index value) {
    add_attribute(node, name, onnx::AttributeProto::INT).set_i(value);
}
inline void set_attribute(onnx::NodeProto& node, const char* name, double value) {
    add_attribute(node, name, onnx::AttributeProto::FLOAT).set_f(static_cast<float>(value));
}
inline void set_attribute(onnx::NodeProto& node, const char* name, const std::vector<Index>& values) {
    onnx::AttributeProto& made = add_attribute(node, name, onnx::AttributeProto::INTS);
    for (const Index value : values) made.add_ints(value);
}
/// @}

} // namespace detail
} // namespace espalier::inline ESPALIER_BACKEND
