#pragma once

#include <espalier/models/cnn.hpp>
#include <espalier/models/densenet.hpp>
#include <espalier/models/lenet.hpp>
#include <espalier/models/mobilenet_v2.hpp>
#include <espalier/models/resnet.hpp>
#include <espalier/models/se_resnet.hpp>
#include <espalier/models/vgg.hpp>
#include <espalier/models/wide_resnet.hpp>

#include <memory>
#include <string>
#include <vector>

namespace espalier::inline ESPALIER_BACKEND {
namespace models {

/// What `create` knows.
inline const std::vector<std::string>& names() {
    static const std::vector<std::string> all{
        "lenet5",      "cnn",      "vgg11",     "vgg13",       "vgg16",       "vgg19",
        "resnet20",    "resnet32", "resnet44",  "resnet56",    "resnet110",   "resnet18",
        "resnet34",    "resnet50", "resnext50", "se-resnet20", "se-resnet56", "densenet-bc-100-12",
        "mobilenetv2", "wrn-16-4", "wrn-28-10"};
    return all;
}

/// The model of that name: `create<float>("resnet20", {.classes = 100})`. @throws StateError listing the known names
template <class T> std::shared_ptr<Model<T>> create(const std::string& name, const Options& options = {}) {
    if (name == "lenet5") return std::make_shared<LeNet<T>>(options);
    if (name == "cnn") return std::make_shared<Cnn<T>>(options);
    for (const Index depth : {11, 13, 16, 19})
        if (name == "vgg" + std::to_string(depth)) return std::make_shared<Vgg<T>>(depth, options);
    for (const Index depth : {20, 32, 44, 56, 110, 18, 34, 50})
        if (name == "resnet" + std::to_string(depth)) return std::make_shared<ResNet<T>>(depth, options);
    for (const Index depth : {20, 56})
        if (name == "se-resnet" + std::to_string(depth)) return std::make_shared<SeResNet<T>>(depth, options);
    if (name == "resnext50") return std::make_shared<ResNet<T>>(ResNet<T>::next50(options));
    if (name == "densenet-bc-100-12") return std::make_shared<DenseNet<T>>(100, 12, options);
    if (name == "mobilenetv2") return std::make_shared<MobileNetV2<T>>(options);
    if (name == "wrn-16-4") return std::make_shared<WideResNet<T>>(16, 4, options);
    if (name == "wrn-28-10") return std::make_shared<WideResNet<T>>(28, 10, options);
    throw StateError("models::create: expected one of " + to_text(names()) + ", got " + name);
}

} // namespace models
} // namespace espalier::inline ESPALIER_BACKEND
