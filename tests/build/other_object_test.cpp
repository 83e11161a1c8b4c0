#include "build/every_header.hpp" // written by CMake: all of include/espalier

// The second object of link_test.cpp.

namespace espalier::test {
MemoryPool& pool_of_other_object() { return MemoryPool::instance(); }
Tensor<float> tensor_of_other_object() { return Tensor<float>::from({3}, {1, 2, 3}); }
} // namespace espalier::test
