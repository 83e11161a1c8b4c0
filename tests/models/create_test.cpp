#include "check_model.hpp"

#include <espalier/models/create.hpp>

using namespace espalier;
using namespace espalier::test;

TEST_CASE("create: every known name makes the model of that name, with the options given") {
    for (const std::string& name : models::names()) {
        const auto model = models::create<float>(name, {.classes = 6, .channels = 1, .seed = 4});
        CHECK(model->name() == name);
        CHECK(model->options().classes == 6);
        CHECK(model->options().seed == 4);
    }
    auto model = models::create<double>("resnet20", {.classes = 6});
    model->eval();
    CHECK(model->forward(Var<double>(random_tensor<double>({2, 8, 8, 3}))).logits.shape() == Shape{2, 6});
    const auto direct = models::resnet20<double>({.classes = 6});
    CHECK(same_bits(model->find("linear.weight").value(), direct.find("linear.weight").value()));
}

TEST_CASE("create: an unknown name is an error that lists the known ones") {
    CHECK_THROWS_WITH_AS(models::create<float>("resnet21"),
                         doctest::Contains("models::create: expected one of [lenet5,cnn,vgg11,"), StateError);
    CHECK_THROWS_WITH_AS(models::create<float>("resnet21"), doctest::Contains("wrn-28-10], got resnet21"), StateError);
}
