#pragma once

#include <espalier/core/config.hpp>

// What `espalier::compiled` holds. The library is headers only; compiling the same code into every object is what makes
// programs slow to build. So a header ends with the names of its expensive templates,
//
//     ESPALIER_COMPILED_FUNCTION(softmax);
//
// and with the bodies of its longer functions that are no templates:
//
//     #if ESPALIER_BODIES
//     ESPALIER_BODY std::string to_text(const Plan& plan) { ... }
//     #endif
//
// A program that links `espalier::compiled` has ESPALIER_COMPILED: it only declares those templates, for float and
// double, and does not see those bodies, nor what they alone include. Without it, the names say nothing and the bodies
// are inline. The sources of the library itself (cmake/EspalierCompiled.cmake) set the three switches below from header
// to header, and so define everything once.

// An installed library comes with the instruction set and threading it was built for, so that another choice is one
// clear error here and not a page of undefined references when linking.
#ifdef ESPALIER_COMPILED_VECTOR_BYTES
#if ESPALIER_COMPILED_VECTOR_BYTES != ESPALIER_VECTOR_BYTES || ESPALIER_COMPILED_FMA != ESPALIER_FMA ||                \
    ESPALIER_COMPILED_OPENMP != ESPALIER_OPENMP
#error "espalier::compiled was built with another -march or OpenMP than this object: give both the same flags"
#endif
#endif

#ifndef ESPALIER_BODIES
#ifdef ESPALIER_COMPILED
#define ESPALIER_INSTANTIATION extern
#define ESPALIER_BODIES 0
#else
/// Whether this object defines the functions that are no templates.
#define ESPALIER_BODIES 1
/// In front of such a function's definition; its declaration has nothing in front.
#define ESPALIER_BODY inline
#endif
#endif

#ifdef ESPALIER_COMPILED
/// A function template with one parameter, the scalar type, and a name that is not overloaded.
#define ESPALIER_COMPILED_FUNCTION(name)                                                                               \
    ESPALIER_INSTANTIATION template decltype(name<float>) name<float>;                                                 \
    ESPALIER_INSTANTIATION template decltype(name<double>) name<double>
/// A class template with one parameter, the scalar type. Members that are long are defined outside of the class: within
/// it they would be inline, and compilers instantiate inline functions wherever they are used.
#define ESPALIER_COMPILED_CLASS(name)                                                                                  \
    ESPALIER_INSTANTIATION template class name<float>;                                                                 \
    ESPALIER_INSTANTIATION template class name<double>
#else
#define ESPALIER_COMPILED_FUNCTION(name) static_assert(true)
#define ESPALIER_COMPILED_CLASS(name) static_assert(true)
#endif
