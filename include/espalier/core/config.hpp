#pragma once

/// Version of the library, `major.minor.patch`; CMake reads it from here. Before 1.0 a new minor may break programs.
#define ESPALIER_VERSION "0.1.0"
/// The same for the preprocessor: 10000 * major + 100 * minor + patch.
#define ESPALIER_VERSION_NUMBER 100

// Instruction set and threading change the bodies of inline functions, so both are part of the namespace tag: objects
// that were built differently have different symbols and fail at link time instead of mixing silently.
#if defined(_OPENMP)
#define ESPALIER_OPENMP 1
#else
#define ESPALIER_OPENMP 0
#endif

#if defined(__AVX512F__)
#define ESPALIER_VECTOR_BYTES 64
#elif defined(__AVX__)
#define ESPALIER_VECTOR_BYTES 32
#else
#define ESPALIER_VECTOR_BYTES 16
#endif

// Whether products are fused with their additions, which rounds once where there were two roundings.
#if defined(__FMA__)
#define ESPALIER_FMA 1
#else
#define ESPALIER_FMA 0
#endif

#define ESPALIER_TAG_JOIN(bytes, fma, threads) cpu_v##bytes##_fma##fma##_omp##threads
#define ESPALIER_TAG(bytes, fma, threads) ESPALIER_TAG_JOIN(bytes, fma, threads)
/// Inline namespace of everything in the library, for instance `cpu_v64_fma1_omp1`.
#define ESPALIER_BACKEND ESPALIER_TAG(ESPALIER_VECTOR_BYTES, ESPALIER_FMA, ESPALIER_OPENMP)

/// The library: `#include <espalier/espalier.hpp>`, `namespace es = espalier;`.
namespace espalier {
inline namespace ESPALIER_BACKEND {}
} // namespace espalier
