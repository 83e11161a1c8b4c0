#pragma once

// Every criterion that the library has (docs/criteria.md). A header that needs one of them includes that one.

#include <espalier/pruning/activations.hpp>
#include <espalier/pruning/filter_norm.hpp>
#include <espalier/pruning/given_scores.hpp>
#include <espalier/pruning/group_criteria.hpp>
#include <espalier/pruning/taylor.hpp>
