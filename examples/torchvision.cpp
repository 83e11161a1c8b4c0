// Weights of torchvision: reads a state dict, classifies the images of a NumPy file, and writes the state dict back.
//
//     torchvision [--device cuda] resnet18 weights.safetensors images.npy logits.npy [exported.safetensors]
//
// docs/weights.md says how the first two files are made.

#include "support/network.hpp"

#include <espalier/io/foreign_state.hpp>
#include <espalier/io/npy.hpp>
#include <espalier/io/safetensors.hpp>
#include <espalier/io/torchvision.hpp>

#include <iostream>

using namespace espalier;

int main(int argc, char** argv) {
    const bool on_gpu = argc > 2 && std::string(argv[1]) == "--device" && std::string(argv[2]) == "cuda";
    if (on_gpu) argv += 2, argc -= 2;
    const bool asked = argc == 2 && std::string(argv[1]) == "--help";
    if (asked || (argc != 5 && argc != 6)) {
        (asked ? std::cout : std::cerr)
            << "usage: torchvision [--device cuda] MODEL STATE_DICT.safetensors IMAGES.npy LOGITS.npy "
               "[EXPORTED.safetensors]\n"
               "Classifies images [N,H,W,3] with weights of torchvision, and writes the weights back in its names.\n"
               "MODEL: resnet18, resnet34, resnet50, vgg11_bn, vgg13_bn, vgg16_bn or vgg19_bn\n";
        return asked ? 0 : 2;
    }
    try {
        const Device device = on_gpu ? Device::cuda : Device::cpu;
        synchronise(device); // one that is not there is an error before anything is done
        const std::string name = argv[1];
        const TensorFile weights = read_safetensors(argv[2]);
        const Tensor<float> images = read_npy<float>(argv[3]); // [N,H,W,3], normalized

        const bool is_vgg = name.starts_with("vgg");
        const std::string ours = name.substr(0, name.find('_')), depth = is_vgg ? ours.substr(3) : "";
        const NameMap map = is_vgg ? torchvision::vgg_bn(std::atoi(depth.c_str())) : torchvision::resnet();
        models::Options options{.classes = weights.shape(is_vgg ? "classifier.6.bias" : "fc.bias").size(),
                                .stem = models::Stem::imagenet};
        if (is_vgg) {
            options.hidden = {4096, 4096};
            options.pooled = 7;
            options.dropout = 0.5;
        }
        const auto model = programs::make_network(ours, options);
        const StateReport report = compare_state(weights, *model, map, Precision::converted);
        if (!report.fits()) std::cerr << to_text(report);
        import_state(weights, *model, map, Precision::converted);
        model->to(device);

        model->eval();
        const NoGrad no_grad;
        write_npy(argv[4], model->forward(Var<float>(images.to(device))).logits.value().to(Device::cpu));
        if (argc == 6) write_safetensors(export_state(*model, map), argv[5]);
        std::cout << name << ": " << report.matches.size() << " tensors, " << images.size(0) << " images\n";
    } catch (const std::exception& error) {
        std::cerr << "torchvision: " << error.what() << "\n";
        return 1;
    }
}
