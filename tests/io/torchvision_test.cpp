#include "support/check.hpp"
#include "support/golden.hpp"

#include <espalier/io/foreign_state.hpp>
#include <espalier/io/torchvision.hpp>
#include <espalier/models/resnet.hpp>
#include <espalier/models/vgg.hpp>

#include <charconv>

// Logits that torchvision's models gave (tools/torchvision_golden.py). Weights are made from their names, as there.

using namespace espalier;
using namespace espalier::test;

namespace {

/// A multiple of 2^-24 in [0, 1): splitmix64 of the hash of a name and a place.
double unit(std::uint64_t hash, Index i) {
    std::uint64_t x = hash + static_cast<std::uint64_t>(i) * 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return static_cast<double>((x ^ x >> 31) >> 40) * 0x1p-24;
}
Tensor<float> values(const std::string& name, const Shape& shape, double gain = 1) {
    double center = 0, radius = 0.125; // of biases, shifts and means
    if (name.ends_with("running_var"))
        center = 1, radius = 0.5;
    else if (name.ends_with("weight") && shape.rank() == 1)
        center = gain, radius = gain / 2;
    else if (name.ends_with("weight"))
        radius = std::sqrt(6 / static_cast<double>(shape.product(1, shape.rank())));
    else if (name == "images")
        radius = 2;
    Tensor<float> x(shape);
    const std::uint64_t hash = Random::hash(name);
    float* const to = x.mutable_data();
    parallel_ranges(x.size(), 1 << 16, [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) // one rounding at most before the last: the same bits as in Python
            to[i] = static_cast<float>(center + (2 * unit(hash, i) - 1) * radius);
    });
    return x;
}

/// A state dict with torchvision's names and shapes, a line each in the golden file.
TensorFile state_dict(const std::string& model, double gain) {
    TensorFile file(model + " of torchvision");
    std::string_view rest = golden("torchvision").text(model);
    while (!rest.empty()) {
        std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(rest.size(), line.size() + 1));
        const std::string name(line.substr(0, line.find(' ')));
        Shape shape;
        while (line.find(' ') != std::string_view::npos) {
            line.remove_prefix(line.find(' ') + 1);
            Index extent = 0;
            REQUIRE(std::from_chars(line.data(), line.data() + line.size(), extent).ec == std::errc());
            shape.append(extent);
        }
        if (name.ends_with("num_batches_tracked"))
            file.add(name, Tensor<Index>::scalar(0));
        else
            file.add(name, values(name, shape, gain));
    }
    return file;
}

template <class T, class Net>
void check_parity(Net net, const std::string& model, const NameMap& map, double gain, double tolerance) {
    const TensorFile theirs = state_dict(model, gain);
    import_state(theirs, net, map, Precision::converted);
    net.eval();
    const NoGrad no_grad;
    const Tensor<T> logits = net.forward(Var<T>(values("images", {2, 64, 64, 3}).cast<T>())).logits.value();
    const Tensor<double> expected = golden("torchvision").get<double>(model);
    REQUIRE(logits.shape() == expected.shape());
    for (Index i = 0; i < logits.size(); ++i)
        CHECK(std::abs(static_cast<double>(logits.data()[i]) - expected.data()[i]) <= tolerance);

    const TensorFile back = export_state(net, map);
    for (const auto& entry : theirs.entries()) {
        const std::string& name = entry.name;                // clang 14 captures no structured binding
        if (name.ends_with("num_batches_tracked")) continue; // PyTorch does without it
        CHECK_MESSAGE(back.shape(name) == theirs.shape(name), name);
        if (name.ends_with("running_mean") || (model == "vgg11_bn" && name.ends_with("bias"))) continue; // folded
        CHECK_MESSAGE(same_bits(back.get<T>(name), theirs.get_converted<T>(name)), name);
    }
    CHECK(compare_state(back, net, map).fits());
}

// Logits are near 1. Fifty layers of float come within 1e-5 of PyTorch in double; a wrong pixel, name or epsilon is
// 1e-3 and more away.
constexpr double single_tolerance = 1e-4, double_tolerance = 1e-11;

} // namespace

// Double for one, float for the others: making weights costs more than the images do.
TEST_CASE("torchvision: ResNet-18 gives torchvision's logits, and its state goes back") {
    check_parity<double>(models::resnet18<double>({.stem = models::Stem::imagenet}), "resnet18", torchvision::resnet(),
                         0.625, double_tolerance);
}

TEST_CASE("torchvision: ResNet-50 gives torchvision's logits, and its state goes back") {
    check_parity<float>(models::resnet50<float>({.stem = models::Stem::imagenet}), "resnet50", torchvision::resnet(),
                        0.625, single_tolerance);
}

TEST_CASE("torchvision: VGG-11 with batch norm gives torchvision's logits, and its state goes back") {
    check_parity<float>(models::vgg11<float>({.hidden = {64, 64}, .pooled = 7, .dropout = 0.5}), "vgg11_bn",
                        torchvision::vgg_bn(11), 0.875, single_tolerance);
}

TEST_CASE("torchvision: names of VGG's layers for every depth") {
    const auto theirs = [](Index depth, const char* ours) {
        return detail::rule_for(torchvision::vgg_bn(depth), ours).theirs;
    };
    // From torchvision's state dicts: the first and the last convolution of the last stage.
    CHECK(theirs(11, "stage5.conv1.weight") == "features.22.weight");
    CHECK(theirs(11, "stage5.conv2.weight") == "features.25.weight");
    CHECK(theirs(13, "stage5.conv1.weight") == "features.28.weight");
    CHECK(theirs(13, "stage5.conv2.weight") == "features.31.weight");
    CHECK(theirs(16, "stage5.conv1.weight") == "features.34.weight");
    CHECK(theirs(16, "stage5.conv3.weight") == "features.40.weight");
    CHECK(theirs(16, "stage5.bn3.running_var") == "features.41.running_var");
    CHECK(theirs(19, "stage5.conv1.weight") == "features.40.weight");
    CHECK(theirs(19, "stage5.conv4.weight") == "features.49.weight");
    CHECK(theirs(19, "hidden2.bias") == "classifier.3.bias");
    CHECK_THROWS_WITH_AS(torchvision::vgg_bn(12), doctest::Contains("a depth of 11, 13, 16 or 19, got 12"), ShapeError);
}
