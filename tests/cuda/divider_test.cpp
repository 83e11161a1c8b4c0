#include <espalier/cuda/divider.cuh>

#include "support/check.hpp"

using namespace espalier;

// The same arithmetic on the CPU as on device_under_test(): whole numbers.

TEST_CASE("Divider: quotients and rests of all kinds of numbers") {
    const Index most = (Index(1) << 31) - 1;
    for (const Index divisor : {Index(1), Index(2), Index(3), Index(5), Index(7), Index(9), Index(64), Index(641),
                                Index(1000), Index(65537), most / 2, most / 2 + 1, most / 2 + 2, most}) {
        const kernels::Divider divide(divisor);
        CAPTURE(divisor);
        const auto check = [&](Index n) {
            if (n < 0 || n > most) return;
            const auto [quotient, rest] = divide(static_cast<unsigned>(n));
            CHECK(quotient == n / divisor);
            CHECK(rest == n % divisor);
        };
        for (Index n = 0; n < 100; ++n) check(n);
        for (const Index times : {Index(1), Index(2), Index(3), Index(1000), most / divisor})
            for (const Index by : {-1, 0, 1}) check(divisor * times + by);
        check(most);
    }
}
