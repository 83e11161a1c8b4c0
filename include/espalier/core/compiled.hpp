#pragma once

#include <espalier/core/config.hpp>

// What `espalier::compiled` holds. The library is headers only; compiling the same kernels into every object is what
// makes programs slow to build, so a header ends with the names of its expensive templates:
//
//     ESPALIER_COMPILED_FUNCTION(softmax);
//
// A program that links `espalier::compiled` has ESPALIER_COMPILED=extern and only declares those names for float and
// double; the library itself, where it is empty, defines them. Without it the lines say nothing.

// An installed library comes with the instruction set and threading it was built for, so that another choice is one
// clear error here and not a page of undefined references when linking.
#ifdef ESPALIER_COMPILED_VECTOR_BYTES
#if ESPALIER_COMPILED_VECTOR_BYTES != ESPALIER_VECTOR_BYTES || ESPALIER_COMPILED_OPENMP != ESPALIER_OPENMP
#error "espalier::compiled was built with another -march or OpenMP than this object: give both the same flags"
#endif
#endif

#ifdef ESPALIER_COMPILED
/// A function template with one parameter, the scalar type, and a name that is not overloaded.
#define ESPALIER_COMPILED_FUNCTION(name)                                                                               \
    ESPALIER_COMPILED template decltype(name<float>) name<float>;                                                      \
    ESPALIER_COMPILED template decltype(name<double>) name<double>
/// A class template with one parameter, the scalar type.
#define ESPALIER_COMPILED_CLASS(name)                                                                                  \
    ESPALIER_COMPILED template class name<float>;                                                                      \
    ESPALIER_COMPILED template class name<double>
#else
#define ESPALIER_COMPILED_FUNCTION(name) static_assert(true)
#define ESPALIER_COMPILED_CLASS(name) static_assert(true)
#endif
