#pragma once

#include <espalier/core/config.hpp>

#include <string>
#include <vector>

// Not part of espalier.hpp: few programs export.

namespace espalier::inline ESPALIER_BACKEND {
namespace detail {

/// A C99 function of generated code.
struct CKernel {
    std::string name, text;
    std::vector<std::string> needs = {}; ///< kernels that it calls
};

/// What generated networks are made of, in an order in which C wants them. Maps are [height][width][channels], and
/// inner loops run over output channels, which lie next to each other, so that compilers turn them into vectors.
inline const std::vector<CKernel>& c_kernels() {
    static const std::vector<CKernel> kernels{
        {"relu", R"(static float relu(float v) { return v < 0 ? 0 : v; }
)"},
        {"relu6", R"(static float relu6(float v) { return v < 0 ? 0 : v > 6 ? 6 : v; }
)"},
        {"window", R"(/* Windows of rows x columns taps that slide over a map. */
struct window {
    int height, width, channels;        /* of the input */
    int out_height, out_width, filters; /* of the output */
    int rows, columns, stride, padding, dilation, groups;
};

/* Taps of a window that starts at pixel `start` of `extent` lie in the map from first_tap to before last_tap. */
static int first_tap(int start, int dilation) { return start < 0 ? (dilation - 1 - start) / dilation : 0; }
static int last_tap(int start, int dilation, int taps, int extent) {
    const int inside = extent > start ? (extent - start + dilation - 1) / dilation : 0;
    return inside < taps ? inside : taps;
}
)"},
        {"add_products",
         R"(/* y[k] += sum over c of x[c] * w[c][k]; four terms at a time spare loads and stores of y. */
static void add_products(const float *x, const float *w, int channels, int filters, float *restrict y) {
    int c = 0, k;
    for (; c + 4 <= channels; c += 4, w += 4 * filters) {
        const float x0 = x[c], x1 = x[c + 1], x2 = x[c + 2], x3 = x[c + 3];
        const float *const w1 = w + filters, *const w2 = w1 + filters, *const w3 = w2 + filters;
        for (k = 0; k < filters; ++k) y[k] += x0 * w[k] + x1 * w1[k] + x2 * w2[k] + x3 * w3[k];
    }
    for (; c < channels; ++c, w += filters)
        for (k = 0; k < filters; ++k) y[k] += x[c] * w[k];
}
)"},
        {"bias", R"(static void start_with_bias(const float *b, int filters, float *y) {
    int k;
    for (k = 0; k < filters; ++k) y[k] = b ? b[k] : 0;
}
static void end_with_relu(int wanted, int filters, float *y) {
    int k;
    if (wanted)
        for (k = 0; k < filters; ++k) y[k] = y[k] < 0 ? 0 : y[k];
}
)"},
        {"linear",
         R"(/* w: [channels][filters] */
static void linear(const float *x, const float *w, const float *b, int channels, int filters, int with_relu, float *y) {
    start_with_bias(b, filters, y);
    add_products(x, w, channels, filters, y);
    end_with_relu(with_relu, filters, y);
}
)",
         {"add_products", "bias"}},
        {"conv2d",
         R"(/* w: [groups][rows][columns][channels / groups][filters / groups] */
static void conv2d(const struct window *g, const float *x, const float *w, const float *b, int with_relu, float *y) {
    const int C = g->channels / g->groups, K = g->filters / g->groups;
    const int adjacent = g->groups == 1 && g->dilation == 1; /* the taps of a row are one run of x and of w */
    int p, q, group, r, s;
    for (p = 0; p < g->out_height; ++p)
        for (q = 0; q < g->out_width; ++q, y += g->filters) {
            const int h = p * g->stride - g->padding, v = q * g->stride - g->padding;
            const int r0 = first_tap(h, g->dilation), r1 = last_tap(h, g->dilation, g->rows, g->height);
            const int s0 = first_tap(v, g->dilation), s1 = last_tap(v, g->dilation, g->columns, g->width);
            start_with_bias(b, g->filters, y);
            for (group = 0; group < g->groups; ++group)
                for (r = r0; r < r1 && s0 < s1; ++r) {
                    const float *from = x + ((h + r * g->dilation) * g->width + v + s0 * g->dilation) * g->channels;
                    const float *taps = w + ((group * g->rows + r) * g->columns + s0) * C * K;
                    if (adjacent) {
                        add_products(from, taps, (s1 - s0) * C, K, y);
                        continue;
                    }
                    for (s = s0; s < s1; ++s, from += g->dilation * g->channels, taps += C * K)
                        add_products(from + group * C, taps, C, K, y + group * K);
                }
            end_with_relu(with_relu, g->filters, y);
        }
}
)",
         {"window", "add_products", "bias"}},
        {"conv2d_depthwise",
         R"(/* w: [rows][columns][channels] */
static void conv2d_depthwise(const struct window *g, const float *x, const float *w, const float *b, int with_relu,
                             float *restrict y) {
    int p, q, r, s, c;
    for (p = 0; p < g->out_height; ++p)
        for (q = 0; q < g->out_width; ++q, y += g->filters) {
            const int h = p * g->stride - g->padding, v = q * g->stride - g->padding;
            const int r0 = first_tap(h, g->dilation), r1 = last_tap(h, g->dilation, g->rows, g->height);
            const int s0 = first_tap(v, g->dilation), s1 = last_tap(v, g->dilation, g->columns, g->width);
            start_with_bias(b, g->filters, y);
            for (r = r0; r < r1; ++r)
                for (s = s0; s < s1; ++s) {
                    const float *from = x + ((h + r * g->dilation) * g->width + v + s * g->dilation) * g->channels;
                    const float *taps = w + (r * g->columns + s) * g->channels;
                    for (c = 0; c < g->channels; ++c) y[c] += from[c] * taps[c];
                }
            end_with_relu(with_relu, g->filters, y);
        }
}
)",
         {"window", "bias"}},
        {"max_pool2d",
         R"(static void max_pool2d(const struct window *g, const float *x, float *restrict y) {
    int p, q, r, s, c;
    for (p = 0; p < g->out_height; ++p)
        for (q = 0; q < g->out_width; ++q, y += g->channels) {
            const int h = p * g->stride - g->padding, v = q * g->stride - g->padding;
            const int r0 = first_tap(h, 1), r1 = last_tap(h, 1, g->rows, g->height);
            const int s0 = first_tap(v, 1), s1 = last_tap(v, 1, g->columns, g->width);
            for (r = r0; r < r1; ++r)
                for (s = s0; s < s1; ++s) {
                    const float *from = x + ((h + r) * g->width + v + s) * g->channels;
                    for (c = 0; c < g->channels; ++c)
                        if ((r == r0 && s == s0) || from[c] > y[c] || from[c] != from[c]) y[c] = from[c];
                }
        }
}
)",
         {"window"}},
        {"avg_pool2d",
         R"(static void avg_pool2d(const struct window *g, const float *x, float *restrict y) {
    const float area = (float)(g->rows * g->columns); /* padding counts as zeros */
    int p, q, r, s, c;
    for (p = 0; p < g->out_height; ++p)
        for (q = 0; q < g->out_width; ++q, y += g->channels) {
            const int h = p * g->stride - g->padding, v = q * g->stride - g->padding;
            const int r1 = last_tap(h, 1, g->rows, g->height), s1 = last_tap(v, 1, g->columns, g->width);
            for (c = 0; c < g->channels; ++c) y[c] = 0;
            for (r = first_tap(h, 1); r < r1; ++r)
                for (s = first_tap(v, 1); s < s1; ++s) {
                    const float *from = x + ((h + r) * g->width + v + s) * g->channels;
                    for (c = 0; c < g->channels; ++c) y[c] += from[c];
                }
            for (c = 0; c < g->channels; ++c) y[c] /= area;
        }
}
)",
         {"window"}},
        {"softmax", R"(/* Of each row; x and y may be the same. */
static void softmax(const float *x, int rows, int columns, float *y) {
    int m, k;
    for (m = 0; m < rows; ++m, x += columns, y += columns) {
        float largest = x[0], sum = 0;
        for (k = 1; k < columns; ++k) largest = x[k] > largest ? x[k] : largest;
        for (k = 0; k < columns; ++k) sum += y[k] = expf(x[k] - largest);
        for (k = 0; k < columns; ++k) y[k] /= sum;
    }
}
)"},
    };
    return kernels;
}

} // namespace detail
} // namespace espalier::inline ESPALIER_BACKEND
