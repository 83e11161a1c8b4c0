// Training steps (forward, loss, backward, update) and inference of whole networks. bench.py drives it.
//
//   {"do": "load", "row": {"task": "step", "model": "vgg16", "batch": 128, "extent": 32, "flow": true, "keep_macs":
//   0.5}}
//   {"do": "save", "path": "..."}                       -> weights, images, labels, logits, loss, gradients
//   {"do": "go", "variant": "espalier", "seconds": 1}   -> milliseconds an iteration, over the row's "group" at least
//
// The answer to "load" has the network's cost; without "keep_macs" it is not pruned, with "round_to" to widths that are
// multiples of it. "task" is step or inference. With "device": "cuda" all of it is on the GPU, captured, convolutions
// in its "precision".

#include "server.hpp"

#include <espalier/core/steady_clock.hpp>
#include <espalier/io/safetensors.hpp>
#include <espalier/models/create.hpp>
#include <espalier/ops/arithmetic.hpp>
#include <espalier/ops/cross_entropy.hpp>
#include <espalier/pruning/criteria.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>
#include <espalier/regularizers/feature_flow.hpp>
#include <espalier/tensor/random.hpp>
#include <espalier/train/captured_step.hpp>
#include <espalier/train/sgd.hpp>

#include <memory>
#include <optional>

namespace espalier::bench {
namespace {

constexpr double flow_weight = 0.1; // of both terms; peers/torch_server.py has the same

/// A network with a batch, as a row asks for it.
class Task {
public:
    explicit Task(const Json& row)
        : trains_(row.at("task") == "step"), device_(device_of(row)), group_(group_of(row)),
          net_(models::create<float>(row.at("model"), {.seed = 1})) {
        const Index batch = row.at("batch").get<Index>(), extent = row.at("extent").get<Index>();
        const Shape image{extent, extent, net_->options().channels};
        images_ = normal<float>(batch_of(batch, image), Random(1, "images"));
        labels_ = Tensor<Index>({batch});
        for (Index n = 0; n < batch; ++n) labels_.mutable_data()[n] = n % net_->options().classes;
        if (row.value("flow", false))
            flow_.emplace(FeatureFlowOptions{.gradient = flow_weight, .curvature = flow_weight});
        if (row.contains("keep_macs")) {
            const auto plan = pruning::plan(*net_, image,
                                            {.criterion = FoldedNorm{},
                                             .keep_macs = row["keep_macs"].get<double>(),
                                             .round_to = row.value("round_to", Index(1))});
            pruning::apply(plan, *net_);
        }
        cost_ = cost(*net_, image);
        net_->to(device_);
        images_ = images_.to(device_);
        labels_ = labels_.to(device_);
        if (!trains_) settle(image);
        // The rate is so low that thousands of steps on one batch leave the network as it is.
        optimizer_.emplace(*net_, SgdOptions{.learning_rate = 1e-6, .momentum = 0.9, .weight_decay = 5e-4});
    }

    const Cost& cost_of_network() const { return cost_; }

    Index group() const { return group_; }
    void wait() const { synchronise(device_); }
    void iterate() { iteration_(); }

    /// What the judge needs to repeat an iteration, and what came out here.
    TensorFile record() {
        TensorFile file;
        for (const auto& list : {net_->parameters(), net_->buffers()}) // clones: the forward pass moves statistics
            for (const auto& [name, var] : list) file.add("in:" + name, var.value().clone());
        for (const auto& [name, join] : net_->joins())
            file.add("in:" + name, Tensor<Index>::from({static_cast<Index>(join->kept.size())}, join->kept));
        file.add("in:images", images_);
        file.add("in:labels", labels_);
        if (!trains_) {
            const NoGrad no_grad;
            file.add("espalier:logits", net_->forward(Var<float>(images_)).logits.value());
            return file;
        }
        net_->clear_grad();
        const auto out = forward();
        const Var<float> y = loss(out);
        y.backward();
        file.add("espalier:logits", out.logits.value());
        file.add("espalier:loss", y.value());
        for (const auto& [name, var] : net_->parameters())
            if (var.grad().defined()) file.add("espalier:gradient." + name, var.grad());
        return file;
    }

private:
    void queue() {
        if (trains_) {
            net_->clear_grad();
            loss(forward()).backward();
            optimizer_->step();
        } else {
            const NoGrad no_grad;
            net_->forward(Var<float>(images_));
        }
    }
    models::Output<float> forward() { return net_->forward(Var<float>(images_)); }
    Var<float> loss(const models::Output<float>& out) const {
        const Var<float> y = cross_entropy(out.logits, labels_);
        return flow_ ? y + (*flow_)(out.flow) : y;
    }
    /// Gives the batch norms statistics that fit the weights; those of a new network would let the maps explode.
    void settle(const Shape& image) {
        const Var<float> images(normal<float>(batch_of(8, image), Random(1, "settle")).to(device_));
        const NoGrad no_grad;
        for (int pass = 0; pass < 50; ++pass) net_->forward(images); // 0.9^50: under 1 % of the old ones is left
        net_->eval();
    }

    bool trains_;
    Device device_;
    Index group_;
    std::shared_ptr<models::Model<float>> net_;
    Tensor<float> images_;
    Tensor<Index> labels_;
    std::optional<FeatureFlow> flow_;
    Cost cost_;
    std::optional<Sgd<float>> optimizer_;
    CapturedStep iteration_{device_, [this] { queue(); }};
};

} // namespace
} // namespace espalier::bench

int main() {
    using namespace espalier;
    using namespace espalier::bench;
    std::optional<Task> task;
    std::optional<MatmulPrecisionScope> precision; // of the row
    const auto load = [&](const Json& request) {
        task.reset();
        MemoryPool::instance(device_of(request.at("row"))).release_cached();
        precision.reset();
        precision.emplace(precision_of(request.at("row")));
        task.emplace(request.at("row"));
        const Cost& cost = task->cost_of_network();
        return Json{{"variants", {"espalier"}}, {"macs", cost.macs}, {"parameters", cost.parameters}};
    };
    const auto save = [&](const Json& request) {
        write_safetensors(task.value().record(), request.at("path").get<std::string>());
        return Json::object();
    };
    const auto go = [&](const Json& request) {
        const double start = steady_seconds(), seconds = request.at("seconds").get<double>();
        Index iterations = 0;
        double passed = 0;
        for (; iterations == 0 || passed < seconds; passed = steady_seconds() - start) {
            for (Index i = 0; i < task.value().group(); ++i, ++iterations) task.value().iterate();
            task.value().wait();
        }
        return Json{{"ms", 1e3 * passed / static_cast<double>(iterations)}};
    };
    return serve({{"load", load}, {"save", save}, {"go", go}});
}
