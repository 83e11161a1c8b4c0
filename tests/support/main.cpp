#define DOCTEST_CONFIG_IMPLEMENT // on its own, because the precompiled header has already included doctest
#include <doctest/doctest.h>

#include <espalier/core/config.hpp>

#include <cstdlib>
#include <string>

int main(int argc, char** argv) {
#if ESPALIER_CUDA && !defined(__CUDACC__)
    // The order in which an emulated GPU runs its threads: a kernel must be right in each.
    if (const char* const order = std::getenv("ESPALIER_TEST_ORDER")) {
        const std::string name = order;
        emulation::order = name == "descending" ? emulation::Order::descending
                           : name == "shuffled" ? emulation::Order::shuffled
                                                : emulation::Order::ascending;
    }
#endif
    return doctest::Context(argc, argv).run();
}
