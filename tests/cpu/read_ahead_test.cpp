#include "support/check.hpp"

#include <espalier/cpu/read_ahead.hpp>

using namespace espalier;
using kernels::ReadAhead;

TEST_CASE("read ahead: all is asked for in the calls that it was shared out over, and no more") {
    const std::vector<char> first(10000), second(777);
    ReadAhead ahead;
    ahead.some(); // of nothing
    CHECK(ahead.left() == 0);
    ahead.add(first.data(), 10000);
    ahead.add(second.data(), 777);
    CHECK(ahead.left() == 10777);
    ahead.share(20);
    for (int call = 0; call < 10; ++call) ahead.some();
    CHECK(ahead.left() > 0);
    CHECK(ahead.left() < 10777);
    for (int call = 10; call < 20; ++call) ahead.some();
    CHECK(ahead.left() == 0);
    ahead.add(second.data(), 1); // there is room again
    CHECK(ahead.left() == 1);
}
