#include <espalier/espalier.hpp>
#include <espalier/io/safetensors.hpp>
#include <espalier/tensor/eigen.hpp>

#include <cmath>

#if ESPALIER_VERSION_NUMBER < 100
#error "expected version 0.1.0 or newer"
#endif

// Exits with 0 if what needs threads, the compiled kernels, Eigen, zlib and the JSON library works.
int main() {
    namespace es = espalier;
    es::Tensor<float> x({8, 125});
    es::parallel_for(x.size(), [&](es::Index i) { x.mutable_data()[i] = static_cast<float>(i % 7); });
    const es::Tensor<float> y = es::softmax(es::Var<float>(x)).value();
    if (std::abs(es::map(y).sum() - 8) > 1e-4f) return 1; // eight rows of sum 1, each to rounding

    es::TensorFile file;
    file.add("y", y);
    es::write_safetensors(file, "consumer.safetensors");
    if (es::read_safetensors("consumer.safetensors").get<float>("y").shape() != y.shape()) return 2;
    try {
        es::read_file("missing.gz");
        return 3;
    } catch (const es::IoError&) {
        return 0;
    }
}
