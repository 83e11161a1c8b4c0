#include "support/check.hpp"

#include <espalier/io/lineage_file.hpp>
#include <espalier/models/create.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>
#include <espalier/train/checkpoint.hpp>
#include <espalier/train/sgd.hpp>

#include <cstdlib>
#include <filesystem>

using namespace espalier;
using namespace espalier::test;

namespace {

const Shape image{16, 16, 3};
constexpr const char* path_variable = "ESPALIER_LINEAGE_TEST_CHECKPOINT"; // tells the second process what to load

Tensor<float> logits(models::Model<float>& net) {
    const NoGrad no_grad;
    const ModeScope<float> mode(net, Mode::inference);
    return net.forward(Var<float>(random_tensor<float>(batch_of(3, image), "images"))).logits.value();
}

} // namespace

TEST_CASE("lineage file: what is saved comes back") {
    pruning::Lineage lineage;
    lineage.set({"conv.weight", 0}, {8, {1, 4, 7}});
    lineage.set({"conv.weight", 3}, {3, {}});
    TensorFile file;
    save_lineage(file, lineage);
    CHECK(file.entries().size() == 4);
    CHECK(load_lineage(file) == lineage);
    CHECK(load_lineage(TensorFile()).axes().empty());
}

TEST_CASE("lineage file: what is none is an error that names the entry") {
    const auto fails = [](const std::string& name, const AnyTensor& kept, const AnyTensor& extent, const char* text) {
        TensorFile file("somewhere");
        file.add("lineage.kept." + name, kept);
        file.add("lineage.extent." + name, extent);
        CHECK_THROWS_WITH_AS(load_lineage(file), doctest::Contains(text), StateError);
    };
    const Tensor<Index> kept = Tensor<Index>::from({2}, {0, 2}), extent = Tensor<Index>::scalar(4);
    fails("weight", kept, extent, "'lineage.kept.weight' in somewhere");
    fails("conv.weight.x", kept, extent, "a variable and its axis");
    fails("conv.weight.-1", kept, extent, "a variable and its axis");
    fails("conv.weight.0", Tensor<float>::zeros({2}), extent, "of type I64, got F32");
    fails("conv.weight.0", kept, Tensor<Index>::zeros({2}), "a list and an extent");
    fails("conv.weight.0", Tensor<Index>::zeros({1, 2}), extent, "a list and an extent");
    fails("conv.weight.0", Tensor<Index>::from({2}, {2, 0}), extent, "rising entries below 4");
    fails("conv.weight.0", kept, Tensor<Index>::scalar(2), "rising entries below 2");
    TensorFile file;
    file.add("lineage.kept.conv.weight.0", kept);
    CHECK_THROWS_WITH_AS(load_lineage(file), doctest::Contains("lineage.extent.conv.weight.0"), StateError);
}

TEST_CASE("lineage file: the second process" * doctest::skip()) { // the test below runs it
    const Checkpoint read = read_checkpoint(std::getenv(path_variable));
    const auto net = models::create<float>(read.model, read.options);
    restore(read, *net);
    CHECK(same_bits(logits(*net), read.extra.get<float>("logits")));
    // The weights before the first cut are drawn again and cut again, at once: as nothing was trained, these are the
    // network's.
    const auto initial = models::create<float>(read.model, read.options);
    pruning::apply(pruning::plan(*initial, image, load_lineage(read.extra)), *initial);
    CHECK(same_bits(logits(*initial), read.extra.get<float>("logits")));
}

TEST_CASE("lineage file: a network cut twice loads in a new process by its name, with its widths and lineage") {
    for (const pruning::Joins joins : {pruning::Joins::coupled, pruning::Joins::indexed}) {
        const std::string path =
            (std::filesystem::temp_directory_path() / ("espalier_lineage_" + to_text(::getpid()))).string();
        const auto net = models::create<float>("resnet20", {.seed = 7});
        Sgd<float> optimizer(*net, {.momentum = 0.9});
        pruning::Lineage lineage;
        for (const std::uint64_t seed : {1u, 2u})
            pruning::apply(
                pruning::plan(*net, image, {.criterion = RandomScore{seed}, .keep_channels = 0.8, .joins = joins}),
                *net, &optimizer, &lineage);
        TensorFile extra;
        save_lineage(extra, lineage);
        extra.add("logits", logits(*net));
        save_checkpoint(path, *net, optimizer, {}, 0, extra);
        ::setenv(path_variable, path.c_str(), 1);
        const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
        CHECK(std::system(("'" + program + "' --no-skip --test-case='lineage file: the second process' >&2").c_str()) ==
              0);
        std::filesystem::remove(path);
    }
}
