#include <espalier/cuda/for_each.cuh>

#include "support/check.hpp"

#include <string>

using namespace espalier;
using namespace espalier::test;

namespace {

// Counts its calls for each number.
struct Visit {
    float* visits;
    __device__ void operator()(Index i) const { visits[i] += 1; }
};

} // namespace

TEST_CASE("for_each_of: every number of every function once, however many there are") {
    if (device_under_test() == Device::cpu) return;
    const Cuda on{current_stream()};
    const Index sizes[] = {1, 0, 255, 2048, 2049, 3, 0, 5000};
    for (const std::size_t functions : {0u, 1u, 8u, kernels::Several<Visit>::most, kernels::Several<Visit>::most + 1}) {
        CAPTURE(functions);
        std::vector<Tensor<float>> visits;
        std::vector<std::pair<Index, Visit>> all;
        for (std::size_t k = 0; k < functions; ++k) {
            const Index count = functions > 8 ? sizes[k % 8] / 16 : sizes[k];
            visits.push_back(Tensor<float>::zeros({count + 1}, Device::cuda)); // one more, which nobody visits
            all.emplace_back(count, Visit{visits.back().mutable_data()});
        }
        kernels::for_each_of(on, all);
        for (std::size_t k = 0; k < functions; ++k) {
            std::vector<float> expected(static_cast<std::size_t>(all[k].first), 1);
            expected.push_back(0);
            CHECK(visits[k].to_vector() == expected);
        }
    }
}
