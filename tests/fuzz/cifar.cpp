#include "fuzz.hpp"

#include <espalier/data/cifar.hpp>

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    for (const char* const name : {"test_batch.bin", "test.bin"}) fuzz::write(name, data, data + size);
    const auto check = [&](const auto& set, Index record) {
        if (!set) return;
        set->check("fuzz");
        fuzz::require(set->size() * record == static_cast<Index>(size));
    };
    check(fuzz::read([] { return data::Cifar10(fuzz::folder(), Split::test); }), 3073);
    for (const CifarLabels labels : {CifarLabels::fine, CifarLabels::coarse})
        check(fuzz::read([&] { return data::Cifar100(fuzz::folder(), Split::test, labels); }), 3074);
    return 0;
}
