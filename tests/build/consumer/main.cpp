#include <espalier/espalier.hpp>
#include <espalier/tensor/eigen.hpp>

// Exits with 0 if the sum over a thousand ones, taken on all cores, is a thousand.
int main() {
    namespace es = espalier;
    es::Tensor<float> x({1000});
    es::parallel_for(x.size(), [&](es::Index i) { x.mutable_data()[i] = 1; });
    return es::map(x).sum() == 1000 ? 0 : 1;
}
