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
// A program that links `espalier::compiled` has ESPALIER_COMPILED=1: it only declares those templates, for float and
// double, and does not see those bodies, nor what they alone include. In the library itself ESPALIER_COMPILED is 2, and
// all of it is defined. Headers alone, it is 0: the names say nothing, and the bodies are inline.

// An installed library comes with the instruction set and threading it was built for, so that another choice is one
// clear error here and not a page of undefined references when linking.
#ifdef ESPALIER_COMPILED_VECTOR_BYTES
#if ESPALIER_COMPILED_VECTOR_BYTES != ESPALIER_VECTOR_BYTES || ESPALIER_COMPILED_OPENMP != ESPALIER_OPENMP
#error "espalier::compiled was built with another -march or OpenMP than this object: give both the same flags"
#endif
#endif

#ifndef ESPALIER_COMPILED
#define ESPALIER_COMPILED 0
#endif

// ESPALIER_COMPILED changes from header to header within the library, so it is looked at where a macro is used.
#define ESPALIER_JOIN_NOW(a, b) a##b
#define ESPALIER_JOIN(a, b) ESPALIER_JOIN_NOW(a, b)

#define ESPALIER_FUNCTION_0(name) static_assert(true)
#define ESPALIER_FUNCTION_1(name)                                                                                      \
    extern template decltype(name<float>) name<float>;                                                                 \
    extern template decltype(name<double>) name<double>
#define ESPALIER_FUNCTION_2(name)                                                                                      \
    template decltype(name<float>) name<float>;                                                                        \
    template decltype(name<double>) name<double>

#define ESPALIER_CLASS_0(name) static_assert(true)
#define ESPALIER_CLASS_1(name)                                                                                         \
    extern template class name<float>;                                                                                 \
    extern template class name<double>
#define ESPALIER_CLASS_2(name)                                                                                         \
    template class name<float>;                                                                                        \
    template class name<double>

#define ESPALIER_BODY_0 inline
#define ESPALIER_BODY_2

/// A function template with one parameter, the scalar type, and a name that is not overloaded.
#define ESPALIER_COMPILED_FUNCTION(name) ESPALIER_JOIN(ESPALIER_FUNCTION_, ESPALIER_COMPILED)(name)
/// A class template with one parameter, the scalar type. Members that are long are defined outside of the class: within
/// it they would be inline, and compilers instantiate inline functions wherever they are used.
#define ESPALIER_COMPILED_CLASS(name) ESPALIER_JOIN(ESPALIER_CLASS_, ESPALIER_COMPILED)(name)
/// Whether this object defines the functions that are no templates.
#define ESPALIER_BODIES (ESPALIER_COMPILED != 1)
/// In front of such a function's definition; its declaration has nothing in front.
#define ESPALIER_BODY ESPALIER_JOIN(ESPALIER_BODY_, ESPALIER_COMPILED)
