#pragma once

/// Version of the library, `major.minor.patch`; CMake reads it from here. Before 1.0 a new minor may break programs.
#define ESPALIER_VERSION "0.1.0"
/// The same for the preprocessor: 10000 * major + 100 * minor + patch.
#define ESPALIER_VERSION_NUMBER 100

// Devices, instruction set and threading change types and bodies, so all are part of the namespace tag: objects that
// were built differently have different symbols and fail at link time instead of mixing silently.
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

#ifndef ESPALIER_CUDA
/// Whether this build has kernels for NVIDIA GPUs. Every object of a program is then compiled as CUDA.
#define ESPALIER_CUDA 0
#endif
#if ESPALIER_CUDA
#include <cuda_runtime.h>
#ifdef __CUDACC__
#define ESPALIER_DEVICES cuda
#elif defined(CUDART_VERSION)
#error "with ESPALIER_CUDA every object is compiled as CUDA: by nvcc -x cu, in CMake LANGUAGE CUDA"
#else
#define ESPALIER_DEVICES cuda_emulated // a stand-in for the runtime that runs kernels on the CPU, for tests
#endif
/// In front of functions that kernels call, too.
#define ESPALIER_HD __host__ __device__
#else
#define ESPALIER_DEVICES cpu
#define ESPALIER_HD
#endif

#define ESPALIER_TAG_JOIN(devices, bytes, fma, threads) devices##_v##bytes##_fma##fma##_omp##threads
#define ESPALIER_TAG(devices, bytes, fma, threads) ESPALIER_TAG_JOIN(devices, bytes, fma, threads)
/// Inline namespace of everything in the library, for instance `cpu_v64_fma1_omp1`.
#define ESPALIER_BACKEND ESPALIER_TAG(ESPALIER_DEVICES, ESPALIER_VECTOR_BYTES, ESPALIER_FMA, ESPALIER_OPENMP)

/// The library: `#include <espalier/espalier.hpp>`, `namespace es = espalier;`.
namespace espalier {
inline namespace ESPALIER_BACKEND {}
} // namespace espalier
