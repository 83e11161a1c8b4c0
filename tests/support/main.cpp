#define DOCTEST_CONFIG_IMPLEMENT // on its own, because the precompiled header has already included doctest
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
