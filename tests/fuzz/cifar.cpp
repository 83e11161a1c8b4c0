#include "fuzz.hpp"

#include <espalier/data/cifar.hpp>

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::write("test_batch.bin", data, data + size);
    if (const auto set = fuzz::read([] { return data::Cifar10(fuzz::folder(), Split::test); })) {
        set->check("fuzz");
        fuzz::require(set->size() * 3073 == static_cast<Index>(size));
    }
    return 0;
}
