#include "data/temporary.hpp"
#include "support/check.hpp"

#include <espalier/data/synthetic.hpp>
#include <espalier/io/example.hpp>
#include <espalier/io/export_graph.hpp>
#include <espalier/io/sensitivity_file.hpp>
#include <espalier/models/resnet.hpp>
#include <espalier/nn/initialize.hpp>
#include <espalier/ops/arithmetic.hpp>
#include <espalier/ops/cross_entropy.hpp>
#include <espalier/pruning/latency_table.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/soft_pruning.hpp>
#include <espalier/pruning/sparsity.hpp>
#include <espalier/pruning/surgery.hpp>
#include <espalier/regularizers/feature_flow.hpp>
#include <espalier/train/checkpoint.hpp>
#include <espalier/train/sgd.hpp>
#include <espalier/train/trainer.hpp>

// The main job on the device under test beside the CPU: a network is trained with feature flow, pruned with its
// optimizer, and trained on.

using namespace espalier;
using namespace espalier::test;

namespace {

struct Run {
    models::ResNet<float> model{8, {.classes = 3, .seed = 1}};
    Sgd<float> optimizer;

    explicit Run(Device device) : optimizer(on(device), {.learning_rate = 0.05, .momentum = 0.9}) {}

    // Two steps on the same batch; the loss of each.
    std::vector<float> train() {
        const Device device = model.device();
        const FeatureFlow flow({.gradient = 0.1, .curvature = 0.1});
        const auto labels = Tensor<Index>::from({4}, {0, 2, 1, 0}, device);
        std::vector<float> losses;
        for (int step = 0; step < 2; ++step) {
            const auto out = model.forward(Var<float>(random_tensor<float>({4, 8, 8, 3}).to(device)));
            const auto loss = cross_entropy(out.logits, labels) + flow(out.flow);
            model.clear_grad();
            loss.backward();
            optimizer.step();
            losses.push_back(loss.item());
        }
        return losses;
    }
    Tensor<float> logits() {
        const NoGrad no_grad;
        const ModeScope<float> mode(model, Mode::inference);
        return model.forward(Var<float>(random_tensor<float>({4, 8, 8, 3}, "test").to(model.device()))).logits.value();
    }

private:
    models::ResNet<float>& on(Device device) {
        model.to(device);
        return model;
    }
};

} // namespace

TEST_CASE("a network on the device: training, pruning and training on as on the CPU") {
    Run cpu(Device::cpu), gpu(device_under_test());
    CHECK(gpu.model.device() == device_under_test());
    const auto compare = [&](double tolerance) {
        const auto expected = cpu.train(), got = gpu.train();
        for (std::size_t step = 0; step < expected.size(); ++step)
            CHECK(double(got[step]) == doctest::Approx(double(expected[step])).epsilon(tolerance));
        check_close(gpu.logits(), cpu.logits().cast<double>(),
                    tolerance / double(std::numeric_limits<float>::epsilon()));
    };
    compare(1e-4); // sums in other orders, through nine layers and two updates

    for (Run* const run : {&cpu, &gpu}) {
        const auto plan = pruning::plan(run->model, {8, 8, 3}, {.keep_macs = 0.5});
        const auto cut = pruning::apply(plan, run->model, &run->optimizer);
        CHECK(cut.certificate.holds());
    }
    CHECK(gpu.model.device() == device_under_test());
    CHECK(gpu.model.parameter_count() == cpu.model.parameter_count());
    compare(1e-3); // after two steps more, of a network that has half its channels
}

TEST_CASE("soft pruning and a fresh start leave a network where it is") {
    Run cpu(Device::cpu), gpu(device_under_test());
    for (Run* const run : {&cpu, &gpu}) {
        const auto plan = pruning::plan(run->model, {8, 8, 3}, {.keep_macs = 0.5});
        pruning::soft_prune(plan, run->model);
    }
    CHECK(gpu.model.device() == device_under_test());
    check_close(gpu.logits(), cpu.logits().cast<double>(), 1000); // other orders of sums, through nine layers
    for (Run* const run : {&cpu, &gpu}) initialize(run->model, Init::he(), 7);
    CHECK(gpu.model.device() == device_under_test());
    for (const auto& [name, var] : gpu.model.parameters()) CHECK(same_bits(var.value(), cpu.model.find(name).value()));
    for (const auto& [name, var] : gpu.model.buffers()) CHECK(same_bits(var.value(), cpu.model.find(name).value()));
    CHECK(gpu.train().size() == 2);
}

TEST_CASE("a trainer and evaluate: the same bits from batches that were made on either device") {
    const ImageSet set = data::synthetic({.count = 5, .height = 8, .width = 8, .channels = 3, .classes = 3, .seed = 1});
    for (const Device network : {Device::cpu, device_under_test()}) {
        std::vector<Tensor<float>> logits;
        std::vector<double> accuracies, losses;
        for (const Device batches : {Device::cpu, device_under_test()}) {
            Run run(network);
            const LoaderOptions options{.size = 3,
                                        .augment = {.crop = 1, .flip = Flip::horizontal, .cutout = 2},
                                        .normalize = measure(set),
                                        .seed = 4,
                                        .device = batches};
            Trainer<float> trainer(run.model, run.optimizer, {.epochs = 1, .after_epoch = {[&](const Progress& p) {
                                                                               losses.push_back(p.mean.total);
                                                                               accuracies.push_back(p.accuracy);
                                                                           }}});
            CHECK(trainer.run(Loader<float>(set, options)) == RunEnd::finished);
            const Evaluation result = evaluate(run.model, Loader<float>(set, options.for_evaluation()));
            losses.push_back(result.loss);
            accuracies.push_back(result.accuracy);
            logits.push_back(run.logits());
            CHECK(run.model.device() == network);
        }
        CHECK(same_bits(logits[0], logits[1]));
        REQUIRE(losses.size() == 4);
        CHECK((losses[0] == losses[2] && losses[1] == losses[3]));
        CHECK((accuracies[0] == accuracies[2] && accuracies[1] == accuracies[3]));
    }
}

TEST_CASE("a checkpoint moves between CPU and GPU") {
    Run gpu(device_under_test());
    gpu.train();
    const TemporaryFolder folder; // the program runs several times at once, in orders of threads
    const std::string path = (folder.path() / "checkpoint.safetensors").string();
    save_checkpoint(path, gpu.model, gpu.optimizer, {});
    Run cpu(Device::cpu), again(device_under_test());
    for (Run* const run : {&cpu, &again}) restore(read_checkpoint(path), run->model, run->optimizer);
    CHECK(same_bits(again.logits(), gpu.logits()));
    check_close(cpu.logits(), gpu.logits().to(Device::cpu).cast<double>(), 1000); // other orders of sums
    CHECK(again.train() == gpu.train());
}

TEST_CASE("what is read off a network on the device is as on the CPU") {
    Run cpu(Device::cpu), gpu(device_under_test());
    const Shape image{8, 8, 3};
    CHECK(cost(gpu.model, image) == cost(cpu.model, image));
    CHECK(to_csv(sparsity(gpu.model)) == to_csv(sparsity(cpu.model)));
    CHECK(export_graph(gpu.model, image).expected.shape() == export_graph(cpu.model, image).expected.shape());
    TensorFile file;
    save_example(file, cpu.model, random_tensor<float>({2, 8, 8, 3}));
    check_example(file, gpu.model);

    const pruning::SensitivityOptions<float> options{.ratios = {0.5}, .joins = pruning::Joins::indexed};
    const auto points = [&](Run& run) {
        return scan_sensitivity(
            run.model, image, [&](auto&) { return static_cast<double>(run.logits().at(1, 2)); }, options);
    };
    const auto expected = points(cpu), got = points(gpu);
    REQUIRE(got.size() == expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        CHECK(got[i].kept == expected[i].kept);
        CHECK(got[i].score == doctest::Approx(expected[i].score).epsilon(1e-4)); // roundings of eight layers
    }
    CHECK(pruning::detail::scan_text<float>(network(gpu.model), image, options) ==
          pruning::detail::scan_text<float>(network(cpu.model), image, options));
    CHECK(gpu.model.device() == device_under_test());

    CHECK(measure_latency(gpu.model, image, {.rounds = 3, .seconds = 0}).lowest > 0);
    const auto table = pruning::sweep_widths(gpu.model, image, {.steps = 1, .rounds = 1});
    CHECK(pruning::predict_latency(gpu.model, image, table) > 0);
    CHECK_NOTHROW(synchronise(device_under_test()));
}

TEST_CASE("a network that moved after its optimizer was made is an error") {
    if (device_under_test() == Device::cpu) return;
    Run run(Device::cpu);
    run.model.to(device_under_test());
    CHECK_THROWS_WITH_AS(run.train(), doctest::Contains("Optimizer::step: expected operands on one device"),
                         DeviceError);
}

TEST_CASE("a network of the CPU and images of the GPU are an error that names the op") {
    if (device_under_test() == Device::cpu) return;
    Run run(Device::cpu);
    const auto images = on_device(random_tensor<float>({1, 8, 8, 3}));
    CHECK_THROWS_WITH_AS(run.model.forward(images), doctest::Contains("conv2d: expected operands on one device"),
                         DeviceError);
}
