#pragma once

#include <espalier/core/config.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// How a difference d of feature maps is measured.
enum class FlowNorm {
    l1,         ///< sum of |d|: drives single elements to zero
    l2,         ///< length sqrt(sum of d^2) of each sample's difference, not squared: drives it to zero as a whole
    squared_l2, ///< sum of d^2: shrinks, but drives nothing to zero
};
/// What is divided out.
enum class FlowReduction {
    mean, ///< mean over batch and elements, so that a weight does not depend on width and resolution
    sum,  ///< mean over the batch, sum over elements
};
/// What happens where a stage begins and the shape changes.
enum class FlowBoundary {
    aligned, ///< the stage's `entry`, where there is one, is its first map
    skip,    ///< nothing is compared across stages
};
/// What the flow's step from one unit to the next is.
enum class FlowDifference {
    features, ///< d_l = x_{l+1} - x_l, the difference of what follows and what precedes a unit
    branches, ///< d_l = F_l, the output of a residual branch, before any activation after the sum
};

/// The weights of feature flow regularization, and the choices that its paper leaves open.
struct FeatureFlowOptions {
    double gradient = 1;                                  ///< weight of the first differences, at least 0
    double curvature = 1;                                 ///< weight of the second differences, at least 0
    FlowNorm norm = FlowNorm::l1;                         ///< of each difference
    FlowReduction reduction = FlowReduction::mean;        ///< over the batch and the elements
    FlowBoundary boundary = FlowBoundary::aligned;        ///< at stage transitions
    FlowDifference difference = FlowDifference::features; ///< maps, or outputs of branches
};

} // namespace espalier::inline ESPALIER_BACKEND
