#include <espalier/espalier.hpp>
#include <espalier/tensor/eigen.hpp>

// The second object of link_test.cpp.

namespace espalier::test {
MemoryPool& pool_of_other_object() { return MemoryPool::instance(); }
Tensor<float> tensor_of_other_object() { return Tensor<float>::from({3}, {1, 2, 3}); }
} // namespace espalier::test
