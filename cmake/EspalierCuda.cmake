# ESPALIER_WITH_CUDA: what the headers need to be compiled as CUDA, for the architectures in CMAKE_CUDA_ARCHITECTURES.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real) # A100 and H100, H200
endif()
enable_language(CUDA)
espalier_find(CUDAToolkit "none; the toolkit comes from NVIDIA" OFF_WITH ESPALIER_WITH_CUDA)
target_compile_definitions(espalier INTERFACE ESPALIER_CUDA=1)
target_compile_options(espalier INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20$<SEMICOLON>--expt-relaxed-constexpr>)
# Not by cuda_std_20: CMake 3.25 does not know that nvcc 13 has it.
target_link_libraries(espalier INTERFACE CUDA::cudart)
if(ESPALIER_WITH_OPENMP)
  target_compile_options(espalier INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${OpenMP_CXX_FLAGS}>)
endif()
