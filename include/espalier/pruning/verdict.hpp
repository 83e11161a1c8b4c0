#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/cost.hpp>
#include <espalier/pruning/latency.hpp>

#include <string>

namespace espalier::inline ESPALIER_BACKEND {

/// One sentence that puts the share of multiply-adds beside the share of time, and admits it when a smaller network is
/// not a faster one: `0.5 of the MACs, 0.71 of the time (1.62 ms, 1.36 to 2.37, before; 1.15 ms, 1.09 to 1.22, after):
/// clearly faster`.
///
/// Faster, and slower, is only what every round says; everything between is undecided.
std::string verdict(const Cost& before, const Cost& after, const Latency& time_before, const Latency& time_after);

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <cstdio>

namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY std::string verdict(const Cost& before, const Cost& after, const Latency& time_before,
                                  const Latency& time_after) {
    const auto digits = [](const char* format, double value) {
        char text[32];
        std::snprintf(text, sizeof text, format, value);
        return std::string(text);
    };
    const auto times = [&](const Latency& t) {
        return join_text(digits("%.3f", t.median), " ms, ", digits("%.3f", t.lowest), " to ",
                         digits("%.3f", t.highest));
    };
    const double macs = static_cast<double>(after.macs) / static_cast<double>(before.macs);
    return join_text(digits("%.2f", macs), " of the MACs, ", digits("%.2f", time_after.median / time_before.median),
                     " of the time (", times(time_before), ", before; ", times(time_after), ", after): ",
                     clearly_faster(time_before, time_after)   ? "clearly faster"
                     : clearly_faster(time_after, time_before) ? "smaller, and slower"
                                                               : "smaller, but not clearly faster: the rounds overlap");
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
