#pragma once

#include <espalier/regularizers/coupled_channels.hpp>

#include "support/check.hpp"

namespace espalier::test {

/// Filters [4,3,3,2] with scales [4], eaten by a weight [3,2,2,4] whose own filters are channels too. Filters 0 and 1
/// are one channel, as after a flattening; the last scale is in none. Two groups.
template <class T> struct Coupled {
    Var<T> filters = parameter_on_device(away_from_zero<T>({4, 3, 3, 2}, "filters")),
           next = parameter_on_device(away_from_zero<T>({3, 2, 2, 4}, "next")),
           gamma = parameter_on_device(away_from_zero<T>({4}, "gamma"));
    std::vector<double> weights{0.5, 2, 1, 3, 0.25};

    static CoupledChannels<T> channels(const Var<T>& filters, const Var<T>& next, const Var<T>& gamma) {
        return {.axes = {{filters, 0, {0, 0, 1, 2}},
                         {gamma, 0, {0, 0, 1, -1}},
                         {next, 3, {0, 0, 1, 2}},
                         {next, 0, {3, -1, 4}}},
                .group = {0, 0, 0, 1, 1}};
    }
    CoupledChannels<T> channels() const { return channels(filters, next, gamma); }
};

} // namespace espalier::test
