#include "build/every_header.hpp" // written by CMake: all of include/espalier

#include "support/check.hpp"

// Two objects of one program include every header of the library: this one and other_object_test.cpp. A function that
// is not inline would be defined twice and the program would not link.

namespace espalier::test {
MemoryPool& pool_of_other_object();
Tensor<float> tensor_of_other_object();
} // namespace espalier::test

using namespace espalier;
using namespace espalier::test;

TEST_CASE("two objects that include everything share one memory pool and pass tensors to each other") {
    CHECK(&pool_of_other_object() == &MemoryPool::instance());
    const Tensor<float> x = tensor_of_other_object();
    CHECK(map(x).sum() == 6);
}
