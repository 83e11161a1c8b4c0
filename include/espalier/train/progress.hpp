#pragma once

#include <espalier/core/shape.hpp>

namespace espalier::inline ESPALIER_BACKEND {

/// Sums over the images of an epoch so far; kept with the position, so that a resumed run reports whole epochs.
struct EpochTotals {
    double loss = 0, cross_entropy = 0, regularizer = 0; ///< sums over images
    Index correct = 0, images = 0;                       ///< images classified right, and seen
};

/// Where a run is: what comes next.
struct Position {
    Index epoch = 0, batch = 0; ///< counted from 0; `batch` within the epoch
    Index step = 0;             ///< batches trained on so far
    EpochTotals totals = {};    ///< of this epoch
};

/// A loss and its parts: total = cross_entropy + regularizer.
struct Losses {
    double total = 0, cross_entropy = 0, regularizer = 0; ///< mean of an image
};

/// What hooks of a trainer learn. The library prints nothing; programs show this (report/progress_bar.hpp) and log it.
struct Progress {
    Position at = {};                         ///< after a step it counts the batch that was just trained on
    Index epochs = 0, batches = 0, steps = 0; ///< of the whole run: epochs, batches an epoch, steps
    Losses last = {}, mean = {};              ///< of the last batch, and an image of this epoch so far
    double accuracy = 0;                      ///< on the training images of this epoch so far, in [0, 1]
    double learning_rate = 0;                 ///< of the last step
    double seconds = 0, seconds_left = 0;     ///< since the call of `run`, and expected to its end
    double images_per_second = 0;             ///< since the call of `run`
};

} // namespace espalier::inline ESPALIER_BACKEND
