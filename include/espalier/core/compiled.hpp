#pragma once

// What `espalier::compiled` holds. The library is headers only; compiling the same kernels into every object is what
// makes programs slow to build, so a header ends with the names of its expensive templates:
//
//     ESPALIER_COMPILED_FUNCTION(softmax);
//
// A program that links `espalier::compiled` has ESPALIER_COMPILED=extern and only declares those names for float and
// double; the library itself, where it is empty, defines them. Without it the lines say nothing.

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
