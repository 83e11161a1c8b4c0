#include "networks.hpp"

#include <espalier/models/resnet.hpp>
#include <espalier/pruning/groups.hpp>

#include <set>

using namespace espalier;
using namespace espalier::test;
using pruning::Joins;

namespace {

/// Each group's name and width.
template <class M> std::vector<std::string> groups_of(M& model, const Shape& image) {
    std::vector<std::string> texts;
    const auto graph = pruning::channel_graph(model, image);
    for (const auto& g : graph.groups()) texts.push_back(g.name + " " + to_text(g.width()));
    return texts;
}

} // namespace

TEST_CASE("groups: every channel lists all that has to go with it") {
    Chain<float> model;
    const auto graph = pruning::channel_graph(model, {4, 4, 3});
    REQUIRE(graph.groups().size() == 3);
    const auto& group = graph.groups()[1];
    CHECK(group.name == "b");
    CHECK(group.width() == 6);
    std::set<std::string> members;
    for (const auto& m : group.channels[2].members) {
        CHECK(m.entry == 2);
        members.insert(m.name + " " + to_text(m.axis) + " " + to_text(static_cast<int>(m.role)));
    }
    const auto role = [](ChannelRole r) { return " " + to_text(static_cast<int>(r)); };
    CHECK(members ==
          std::set<std::string>{"b.weight 0" + role(ChannelRole::makes), "b.bias 0" + role(ChannelRole::shifts),
                                "b_bn.gamma 0" + role(ChannelRole::scales), "b_bn.beta 0" + role(ChannelRole::shifts),
                                "b_bn.running_mean 0" + role(ChannelRole::mean),
                                "b_bn.running_var 0" + role(ChannelRole::variance),
                                "head.weight 1" + role(ChannelRole::eats)});
    CHECK(graph.groups()[2].blocked == "output");
}

TEST_CASE("groups: an op without a channel rule blocks what reaches it, by name") {
    Undeclared<float> model;
    const auto graph = pruning::channel_graph(model, {4, 4, 3});
    CHECK(graph.groups()[0].blocked.find("op mystery declares no channel rule") == 0);
    CHECK(graph.groups()[1].name == "b.conv"); // what the mystery ends in is eaten by b, whose own channels are free
    CHECK(graph.groups()[1].blocked.empty());
}

TEST_CASE("groups: indexed joins free the ends of branches and hold the stream") {
    models::ResNet<float> model(20, {.channels = 1});
    const auto coupled = pruning::channel_graph(model, {28, 28, 1});
    const auto indexed = pruning::channel_graph(model, {28, 28, 1}, Joins::indexed);
    CHECK(coupled.groups().size() == 9 + 3 + 1); // first convolutions, three parts of the stream, classes
    int branches = 0, streams = 0;
    for (const auto& g : indexed.groups()) {
        branches += g.is_branch;
        streams += g.blocked == "residual stream of indexed joins";
        if (g.is_branch) CHECK(g.blocked.empty());
    }
    CHECK(branches == 9);
    CHECK(streams == 1); // the stem; what joins add to it does not make it
    CHECK(indexed.groups().size() == 9 + 9 + 1 + 1);
}

TEST_CASE("groups: tracing changes neither the model nor its mode") {
    Chain<float> model;
    shake(model);
    model.train();
    const Tensor<float> mean = model.a.bn.running_mean.value().clone();
    pruning::channel_graph(model, {4, 4, 3});
    CHECK(model.mode() == Mode::training);
    CHECK(same_bits(mean, model.a.bn.running_mean.value()));
    for (const auto& [name, var] : model.parameters()) CHECK_FALSE(var.grad().defined());
}

TEST_CASE("groups: an identity shortcut across three blocks is one group") {
    Residual<float> model;
    CHECK(groups_of(model, {4, 4, 3}) ==
          std::vector<std::string>{"stem.conv 8", "one.a.conv 6", "two.a.conv 6", "three.a.conv 6", "head 4"});
}

TEST_CASE("groups: a padded shortcut couples exactly the channels it places") {
    models::ResNet<float> model(8, {.channels = 3});
    // The 16 channels of stage 1 lie in the middle of stage 2's 32, and those in the middle of stage 3's 64.
    CHECK(groups_of(model, {8, 8, 3}) == std::vector<std::string>{"conv 16", "stage1.0.conv1 16", "stage2.0.conv1 32",
                                                                  "stage2.0.conv2 16", "stage3.0.conv1 64",
                                                                  "stage3.0.conv2 32", "linear 10"});
    models::ResNet<float> projected(8, {.channels = 3, .shortcut = models::Shortcut::projection});
    CHECK(groups_of(projected, {8, 8, 3}).size() == 7);
}

TEST_CASE("groups: a broadcast multiply couples its channels, an extent of 1 couples nothing") {
    Excited<float> model;
    CHECK(groups_of(model, {4, 4, 3}) ==
          std::vector<std::string>{"a.conv 6", "squeeze 3", "gate 1", "b.conv 5", "head 4"});
}
