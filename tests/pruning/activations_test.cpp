#include "scores.hpp"

#include <espalier/ops/dropout.hpp>
#include <espalier/pruning/activations.hpp>

#include <Eigen/LU>

using namespace espalier;
using namespace espalier::test;

namespace {
using Numbers = std::vector<double>;

template <class T> Numbers of_a(ByHand<T>& model, const pruning::Criterion<T>& criterion) {
    return scores(model, criterion, "a", 1);
}
template <class T> double rank_of(Index height, Index width, const std::vector<T>& values) {
    return pruning::detail::map_rank<T>({values.data(), nullptr, height, width, 1});
}
} // namespace

TEST_CASE_TEMPLATE("activations: peak, share of non-zeros and rank by hand", T, float, double) {
    // Maps behind relu:  image 1: [1 0; 3 4], [0 2; 0 0], 0   image 2: [1 1; 1 1], 0, 0
    ByHand<T> model;
    const auto net = network(model);
    CHECK(of_a<T>(model, ActivationPeak<T>{net, {image_1<T>}}) == Numbers{4, 2, 0});
    CHECK(of_a<T>(model, Apoz<T>{net, {image_1<T>}}) == Numbers{0.75, 0.25, 0});
    CHECK(of_a<T>(model, ActivationRank<T>{net, {image_1<T>}}) == Numbers{2, 1, 0});
    for (const auto& batches : {std::vector<Tensor<T>>{both_images<T>}, {image_1<T>, image_2<T>}}) {
        CHECK(of_a<T>(model, ActivationPeak<T>{net, batches}) == Numbers{4, 2, 0});
        CHECK(of_a<T>(model, Apoz<T>{net, batches}) == Numbers{0.875, 0.125, 0});
        CHECK(of_a<T>(model, ActivationRank<T>{net, batches}) == Numbers{1.5, 0.5, 0});
    }
    CHECK(ActivationPeak<T>{net, {}}.name() + Apoz<T>{net, {}}.name() + ActivationRank<T>{net, {}}.name() ==
          "activation peak1 - APoZactivation rank");
}

TEST_CASE_TEMPLATE("activations: rank of maps", T, float, double) {
    CHECK(rank_of<T>(2, 2, {0, 0, 0, 0}) == 0);
    CHECK(rank_of<T>(1, 4, {0, 0, 0, 7}) == 1);
    CHECK(rank_of<T>(3, 3, {1, 0, 0, 0, 1, 0, 0, 0, 1}) == 3);
    CHECK(rank_of<T>(3, 3, {1, 2, 3, 4, 5, 6, 7, 8, 9}) == 2); // 2 * row 2 = row 1 + row 3
    CHECK(rank_of<T>(2, 3, {1, 2, 3, 2, 4, 6}) == 1);
    CHECK(rank_of<T>(2, 2, {T(1e-30), 0, 0, T(1e-30)}) == 2); // small is not singular
    CHECK(std::isnan(rank_of<T>(2, 2, {1, std::numeric_limits<T>::quiet_NaN(), 1, 1})));
    CHECK(std::isnan(rank_of<T>(2, 2, {1, 1, std::numeric_limits<T>::infinity(), 1})));
    for (Index rank = 1; rank <= 8; ++rank) // products [8,rank] x [rank,10], rounded to T
        for (int draw = 0; draw < 20; ++draw) {
            const Random random(static_cast<std::uint64_t>(rank * 100 + draw), "rank");
            const auto a = uniform<double>({8, rank}, random, -1, 1),
                       b = uniform<double>({rank, 10}, random.substream(1), -1, 1);
            std::vector<T> values;
            Eigen::MatrixXd matrix(8, 10);
            for (Index h = 0; h < 8; ++h)
                for (Index w = 0; w < 10; ++w) {
                    double sum = 0;
                    for (Index r = 0; r < rank; ++r) sum += a.at(h, r) * b.at(r, w);
                    values.push_back(static_cast<T>(sum));
                    matrix(h, w) = sum;
                }
            CHECK(rank_of<T>(8, 10, values) == static_cast<double>(rank));
            CHECK(Eigen::FullPivLU<Eigen::MatrixXd>(matrix).rank() == rank);
        }
}

TEST_CASE("activations: the peak finds filters that relu silences, whatever their norm") {
    Chain<double> model;
    shake(model);
    model.a.bn.beta.mutable_value().set(-1e6, 4); // a large filter, never above zero
    const auto images = random_tensor<double>({3, 4, 4, 3});
    const auto peaks = scores(model, ActivationPeak<double>{network(model), {images}}, "a.conv");
    CHECK(peaks[4] == 0);
    model.eval();
    const Tensor<double> y = model.a.forward(Var<double>(images)).value();
    for (Index c = 0; c < 8; ++c) {
        double peak = 0;
        for (Index i = c; i < y.size(); i += 8) peak = std::max(peak, y.data()[i]);
        CHECK(peaks[static_cast<std::size_t>(c)] == doctest::Approx(peak));
    }
}

TEST_CASE("activations: behind global pooling and a flatten, the maps before it") {
    const auto images = random_tensor<double>({3, 4, 4, 3});
    const auto ranks_of = [](const Tensor<double>& y) {
        Numbers ranks(static_cast<std::size_t>(y.size(3)), 0);
        for (Index n = 0; n < 3; ++n)
            for (Index c = 0; c < y.size(3); ++c) {
                Eigen::MatrixXd map(4, 4);
                for (Index h = 0; h < 4; ++h)
                    for (Index w = 0; w < 4; ++w) map(h, w) = y.at(n, h, w, c);
                ranks[static_cast<std::size_t>(c)] +=
                    static_cast<double>(Eigen::FullPivLU<Eigen::MatrixXd>(map).rank());
            }
        for (double& r : ranks) r /= 3;
        return ranks;
    };
    Chain<double> pooled;
    shake(pooled);
    pooled.eval();
    const auto y = pooled.b_bn.forward(pooled.b.forward(pooled.a.forward(Var<double>(images))), Activation::relu);
    const auto expected = ranks_of(y.value());
    CHECK(*std::max_element(expected.begin(), expected.end()) > 1); // of a vector it could not be
    CHECK(scores(pooled, ActivationRank<double>{network(pooled), {images}}, "b") == expected);

    Flattened<double> flat;
    shake(flat);
    flat.eval();
    CHECK(scores(flat, ActivationRank<double>{network(flat), {images}}, "a.conv") ==
          ranks_of(flat.a.forward(Var<double>(images)).value()));
    // What a linear layer makes has no map: one number an image, not zero for 2 of these 3, say.
    const auto hidden = relu(flat.hidden.forward(flatten(flat.a.forward(Var<double>(images))))).value();
    const auto shares = scores(flat, Apoz<double>{network(flat), {images}}, "hidden");
    for (Index k = 0; k < 10; ++k) {
        double share = 0;
        for (Index n = 0; n < 3; ++n) share += hidden.at(n, k) > 0 ? 1.0 / 3 : 0;
        CHECK(shares[static_cast<std::size_t>(k)] == doctest::Approx(share));
    }
}

TEST_CASE("activations: a stream has a map in each block") {
    Residual<double> model;
    shake(model);
    model.eval();
    const auto images = random_tensor<double>({2, 4, 4, 3});
    std::vector<Var<double>> maps{model.stem.forward(Var<double>(images))};
    for (auto* block : {&model.one, &model.two, &model.three}) maps.push_back(block->forward(maps.back()));
    Numbers mean(8, 0), peak(8, 0);
    for (const auto& map : maps)
        for (Index c = 0; c < 8; ++c) {
            double largest = 0;
            for (Index i = c; i < map.size(); i += 8) largest = std::max(largest, std::abs(map.value().data()[i]));
            mean[static_cast<std::size_t>(c)] += largest / 4;
            peak[static_cast<std::size_t>(c)] = std::max(peak[static_cast<std::size_t>(c)], largest);
        }
    const ActivationPeak<double> largest{network(model), {images}};
    CHECK(scores(model, largest, "stem.conv") == peak);
    const auto got = scores(model, ActivationPeak<double>{network(model), {images}, Combine::mean}, "stem.conv");
    for (std::size_t c = 0; c < 8; ++c) CHECK(got[c] == doctest::Approx(mean[c]));
}

TEST_CASE("activations: the end of an indexed branch is seen as its join sees it") {
    Residual<double> model;
    shake(model);
    model.eval();
    const auto images = random_tensor<double>({2, 4, 4, 3});
    const Var<double> stream = model.stem.forward(Var<double>(images));
    const Tensor<double> branch = model.one.b.forward(model.one.a.forward(stream), Activation::none).value();
    Numbers peak(8, 0);
    for (Index i = 0; i < branch.size(); ++i)
        peak[static_cast<std::size_t>(i % 8)] =
            std::max(peak[static_cast<std::size_t>(i % 8)], std::abs(branch.data()[i]));
    const ActivationPeak<double> largest{network(model), {images}};
    CHECK(scores(model, largest, "one.b.conv", 3, pruning::Joins::indexed) == peak);
}

TEST_CASE_TEMPLATE("activations: NaN is no score", T, float, double) {
    ByHand<T> model;
    model.a.weight.mutable_value().set(std::numeric_limits<T>::quiet_NaN(), 1, 0, 0, 0);
    // The kernels' relu may turn NaN into 0; this network has none.
    struct Plain : Module<T> {
        Conv2d<T> a = this->child("a", convolution<T>(1, 3, 1)), b = this->child("b", convolution<T>(3, 2, 1));
        Var<T> forward(const Var<T>& x) { return global_avg_pool(b.forward(a.forward(x))); }
    } plain;
    plain.a.weight.set_value(model.a.weight.value());
    const auto net = network(plain);
    for (const pruning::Criterion<T>& criterion : {pruning::Criterion<T>(ActivationPeak<T>{net, {image_1<T>}}),
                                                   pruning::Criterion<T>(Apoz<T>{net, {image_1<T>}}),
                                                   pruning::Criterion<T>(ActivationRank<T>{net, {image_1<T>}})}) {
        const auto got = scores(plain, criterion, "a", 1);
        CHECK(std::isnan(got[1]));
        CHECK_FALSE(std::isnan(got[0]));
    }
}

TEST_CASE("activations: what can't be looked at") {
    Chain<float> model;
    Residual<float> other;
    const auto images = random_tensor<float>({2, 4, 4, 3});
    const auto error = [&](const auto& criterion) { return error_of([&] { scores(model, criterion, "b"); }); };
    CHECK(error(ActivationPeak<float>{network(model), {}}) ==
          "ActivationPeak: expected at least one batch of images, got none");
    CHECK(error(Apoz<float>{network(model), {}}) == "Apoz: expected at least one batch of images, got none");
    CHECK(error(ActivationRank<float>{network(other), {images}}) ==
          "ActivationRank: expected the model whose graph is scored, got one without its a.conv.weight");

    struct Moody : Module<float> { // a way of its own for every batch size
        Conv2d<float> a = child("a", convolution<float>(3, 4)), b = child("b", convolution<float>(4, 4)),
                      c = child("c", convolution<float>(4, 4));
        Var<float> forward(const Var<float>& x) {
            const auto y = b.forward(relu(a.forward(x)));
            return global_avg_pool(c.forward(x.size(0) > 2 ? c.forward(relu(y)) : relu(y)));
        }
    } moody;
    const Apoz<float> apoz{network(moody), {images, random_tensor<float>({3, 4, 4, 3})}};
    CHECK(error_of([&] { scores(moody, apoz, "a"); }) == "Apoz: expected the same 2 maps for every batch, got 3");
}

TEST_CASE("activations: the same bits on any number of threads") {
    Residual<float> model;
    shake(model);
    const auto images = random_tensor<float>({5, 4, 4, 3});
    const auto net = network(model);
    check_repeatable([&] { return all_scores(model, ActivationPeak<float>{net, {images}}); });
    check_repeatable([&] { return all_scores(model, Apoz<float>{net, {images}}); });
    check_repeatable([&] { return all_scores(model, ActivationRank<float>{net, {images}}); });
}
