#pragma once

#include "settings.hpp"

namespace espalier::programs {

/// Runs the verb on the command line: the whole of an example's `main`. Prints what it does; an error is one line on
/// the standard error stream. @return the exit code
int run(const Experiment& experiment, int argc, char** argv);

} // namespace espalier::programs
