// What the choice of a way through 3x3 convolutions by shapes (kernels::winograd_pays, kernels::bf16_pays) loses
// against a table of measured choices: times all ways that the processor has for every distinct layer of VGG-16 and the
// ResNets for small images, for pruned widths, and at several batches, and prints, in Markdown, by how much the chosen
// way is slower than the fastest one.
//
//   choices [--all] [batch ...]       (default: 1 4 16 64 128; --all prints each slower choice)

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

enum Way { direct, transforms, matrix_unit, ways };
constexpr const char* way_names[] = {"direct", "transforms", "matrix unit"};

/// Of one layer and direction, by each way; infinite where there is none.
struct Times {
    double of[ways] = {1e9, 1e9, 1e9};
};

struct Regret {
    std::string name;
    double share, milliseconds;
};

/// All ways in turns, the least of each: what disturbs a run only ever adds.
void measure(Times& best, const auto&... way) {
    for (int round = 0; round < 7; ++round) {
        int i = 0;
        ((best.of[i] = std::min(best.of[i], i == matrix_unit && !kernels::has_bf16_tiles() ? 1e9 : milliseconds(way)),
          ++i),
         ...);
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
    const auto transform = [&](const auto& from, const View<const float, 4>& filters, Tensor<float>& to) {
        const auto plan = kernels::winograd_plan(on, from, Index(1), mutable_view<4>(to));
        Tensor<float> scratch({plan.scratch()});
        kernels::conv2d_winograd(on, plan, from, filters, view<1>(none), mutable_flat(scratch), mutable_view<4>(to));
    };
    const auto split = [&](const auto& from, const View<const float, 4>& filters, Tensor<float>& to) {
        const auto plan = kernels::bf16_conv_plan(on, from, 1, 3, mutable_view<4>(to));
        Tensor<float> scratch({plan.scratch()});
        kernels::conv2d_bf16x2(on, plan, from, filters, view<1>(none), mutable_flat(scratch), mutable_view<4>(to));
    };
    const auto precise = [&](const auto& f) {
        return [&f] {
            const PathScope path(Path::precise);
            f();
        };
    };

    Times times[3];
    measure(
        times[0], precise([&] { detail::conv2d_forward<float>(x, w, none, o, true); }),
        [&] { transform(rows, taps, y); }, [&] { split(rows, taps, y); });
    measure(
        times[1], precise([&] { detail::conv2d_data_gradient<float>(dy, w, o, dx, false); }),
        [&] { transform(gradients, detail::turned_filters(w), dx); },
        [&] { split(gradients, detail::turned_filters(w), dx); });
    measure(
        times[2], precise([&] { detail::conv2d_weight_gradient<float>(x, dy, w.shape(), o); }),
        [&] {
            const auto plan = kernels::winograd_weight_plan(on, rows, gradients, Index(1));
            Tensor<float> scratch({plan.scratch()});
            kernels::conv2d_winograd_weight_gradient(on, plan, rows, gradients, mutable_flat(scratch),
                                                     mutable_view<4>(dw));
        },
        [&] {
            const auto plan = kernels::bf16_weight_plan(on, rows, gradients, 1, 3);
            Tensor<float> scratch({plan.scratch()});
            kernels::conv2d_bf16x2_weight_gradient(on, plan, rows, gradients, mutable_flat(scratch),
                                                   mutable_view<4>(dw));
        });

    const char* const directions[] = {"forward", "data", "weights"};
    for (int d = 0; d < 3; ++d) {
        const auto pass = static_cast<kernels::ConvPass>(d);
        const Way way = kernels::bf16_pays<float>(x.shape(), w.shape(), o, pass)       ? matrix_unit
                        : kernels::winograd_pays<float>(x.shape(), w.shape(), o, pass) ? transforms
                                                                                       : direct;
        const double* const of = times[d].of;
        const double taken = of[way], least = *std::min_element(of, of + ways);
        chosen += taken;
        fastest += least;
        if (taken > least)
            regrets.push_back(
                {join_text(l.channels, "x", l.filters, "x", l.extent, ", batch ", batch, ", ", directions[d], ": ",
                           way_names[way], " instead of ", way_names[std::min_element(of, of + ways) - of]),
                 taken / least - 1, taken - least});
    }
}

} // namespace

int main(int argc, char** argv) {
    std::vector<Index> batches;
    const bool all = argc > 1 && std::string(argv[1]) == "--all";
    for (int i = all ? 2 : 1; i < argc; ++i) batches.push_back(std::atol(argv[i]));
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
        for (const Regret& r : regrets)
            if (all) std::fprintf(stderr, "%s: %.0f %%, %.3f ms\n", r.name.c_str(), 100 * r.share, r.milliseconds);
    }
}
