// What the cost model of 3x3 convolutions (kernels::winograd_pays) loses against a table of measured choices: times
// both ways for every distinct layer of VGG-16 and the ResNets for small images, for pruned widths, and at several
// batches, and prints, in Markdown, by how much the chosen way is slower than the faster one.
//
//   choices [batch ...]       (default: 1 4 16 64 128)

#include <espalier/core/steady_clock.hpp>
#include <espalier/ops/conv2d.hpp>
#include <espalier/tensor/random.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

using namespace espalier;

namespace {

struct Layer {
    Index channels, filters, extent;
};

std::vector<Layer> layers() {
    std::vector<Layer> all{{64, 64, 32},  {64, 128, 16}, {128, 128, 16}, {128, 256, 8}, {256, 256, 8}, {256, 512, 4},
                           {512, 512, 4}, {512, 512, 2}, {16, 16, 32},   {32, 32, 16},  {64, 64, 8},   {64, 64, 64},
                           {3, 16, 32},   {3, 64, 32},   {3, 64, 64},    {3, 64, 16},   {1, 6, 28},    {1, 32, 28}};
    for (const Index extent : {32, 16, 8, 4})
        for (const auto& [c, k] :
             {std::pair<Index, Index>{4, 4}, {8, 8}, {8, 16}, {14, 9}, {9, 14}, {28, 18}, {37, 37}, {49, 49}, {61, 61}})
            all.push_back({c, k, extent});
    return all;
}

double milliseconds(const auto& f) {
    const double start = steady_seconds();
    f();
    return 1e3 * (steady_seconds() - start);
}

/// Of one layer and direction: directly, by Winograd's way.
struct Times {
    double direct = 1e9, transformed = 1e9;
};

struct Regret {
    std::string name;
    double share, milliseconds;
};

/// Both ways by turns, the least of each: what disturbs a run only ever adds.
void measure(Times& best, const auto& direct, const auto& transformed) {
    for (int round = 0; round < 7; ++round) {
        best.direct = std::min(best.direct, milliseconds(direct));
        best.transformed = std::min(best.transformed, milliseconds(transformed));
    }
}

void measure(const Layer& l, Index batch, std::vector<Regret>& regrets, double& chosen, double& fastest) {
    const Conv2dOptions o{.padding = 1};
    const auto x = normal<float>({batch, l.extent, l.extent, l.channels}, Random(1, "x"));
    const auto dy = normal<float>({batch, l.extent, l.extent, l.filters}, Random(1, "dy"));
    const auto w = normal<float>({l.filters, 3, 3, l.channels}, Random(1, "w"));
    Tensor<float> y(dy.shape()), dx(x.shape()), dw(w.shape());
    const Tensor<float> none({0});
    const Cpu on;
    const auto rows = kernels::map_rows(view<4>(x)), gradients = kernels::map_rows(view<4>(dy));
    const Index c = l.channels;
    const View<const float, 4> taps(w.data(), {3, 3, c, l.filters}, {3 * c, c, 1, 9 * c});
    const auto convolve = [&](const auto& from, const View<const float, 4>& filters, Tensor<float>& to) {
        const auto plan = kernels::winograd_plan(on, from, Index(1), mutable_view<4>(to));
        Tensor<float> scratch({plan.scratch()});
        kernels::conv2d_winograd(on, plan, from, filters, view<1>(none), mutable_flat(scratch), mutable_view<4>(to));
    };

    Times times[3];
    measure(
        times[0],
        [&] {
            const PathScope path(Path::precise);
            detail::conv2d_forward<float>(x, w, none, o);
        },
        [&] { convolve(rows, taps, y); });
    measure(
        times[1],
        [&] {
            const PathScope path(Path::precise);
            detail::conv2d_data_gradient<float>(dy, w, o, dx, false);
        },
        [&] { convolve(gradients, detail::turned_filters(w), dx); });
    measure(
        times[2],
        [&] {
            const PathScope path(Path::precise);
            detail::conv2d_weight_gradient<float>(x, dy, w.shape(), o);
        },
        [&] {
            const auto plan = kernels::winograd_weight_plan(on, rows, gradients, Index(1));
            Tensor<float> scratch({plan.scratch()});
            kernels::conv2d_winograd_weight_gradient(on, plan, rows, gradients, mutable_flat(scratch),
                                                     mutable_view<4>(dw));
        });

    const char* const directions[] = {"forward", "data", "weights"};
    for (int d = 0; d < 3; ++d) {
        const bool transforms =
            kernels::winograd_pays<float>(x.shape(), w.shape(), o, static_cast<kernels::ConvPass>(d));
        const double taken = transforms ? times[d].transformed : times[d].direct;
        const double least = std::min(times[d].transformed, times[d].direct);
        chosen += taken;
        fastest += least;
        if (taken > least)
            regrets.push_back({join_text(l.channels, "x", l.filters, "x", l.extent, ", batch ", batch, ", ",
                                         directions[d], ": ", transforms ? "transforms" : "direct"),
                               taken / least - 1, taken - least});
    }
}

} // namespace

int main(int argc, char** argv) {
    std::vector<Index> batches;
    for (int i = 1; i < argc; ++i) batches.push_back(std::atol(argv[i]));
    if (batches.empty()) batches = {1, 4, 16, 64, 128};
    std::printf(
        "| batch | choices | of them the slower way | time lost, of all | the middle loss of those | the largest |\n"
        "| --: | --: | --: | --: | --: | --- |\n");
    for (const Index batch : batches) {
        std::vector<Regret> regrets;
        double chosen = 0, fastest = 0;
        for (const Layer& l : layers()) measure(l, batch, regrets, chosen, fastest);
        std::sort(regrets.begin(), regrets.end(), [](const auto& a, const auto& b) { return a.share < b.share; });
        const std::string largest =
            regrets.empty() ? "" : join_text(std::lround(100 * regrets.back().share), " % (", regrets.back().name, ")");
        std::printf("| %lld | %zu | %zu | %.1f %% | %.0f %% | %s |\n", static_cast<long long>(batch),
                    3 * layers().size(), regrets.size(), 100 * (chosen / fastest - 1),
                    regrets.empty() ? 0.0 : 100 * regrets[regrets.size() / 2].share, largest.c_str());
        std::fflush(stdout);
    }
}
