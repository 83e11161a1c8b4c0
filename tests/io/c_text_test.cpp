#include "support/check.hpp"

#include <espalier/io/c_text.hpp>

#include <cstdlib>

using namespace espalier;
using namespace espalier::test;

TEST_CASE("c_float: every float is written exactly, doubles are rounded once") {
    for (const float value : {1.0f, -0.1f, 1e-45f, 3.4028235e38f, 0x1.fffffep-1f}) {
        const std::string text = detail::c_float(static_cast<double>(value));
        CHECK(text.back() == 'f');
        CHECK(std::strtof(text.c_str(), nullptr) == value);
    }
    CHECK(detail::c_float(0) == "0");
    CHECK(detail::c_float(1e-300) == "0");
    CHECK(std::strtof(detail::c_float(0.1).c_str(), nullptr) == 0.1f);
    CHECK(std::strtod(detail::c_number(0.1).c_str(), nullptr) == 0.1);
}

TEST_CASE("c_array: eight numbers a line") {
    CHECK(detail::c_array("static const float", "w", Tensor<double>::from({2}, {1, 0})) ==
          "static const float w[2] = {\n    0x1p+0f, 0,\n};\n");
    CHECK(detail::c_array("int", "v", Tensor<double>::zeros({9})) ==
          "int v[9] = {\n    0, 0, 0, 0, 0, 0, 0, 0,\n    0,\n};\n");
}

TEST_CASE("c_loops: the element at i0, i1, .. for all of them, without axes of one") {
    const Shape map{2, 1, 5};
    CHECK(detail::c_strides(map) == detail::CStrides{5, 5, 1});
    CHECK(detail::c_at("v", map, {5, 5, 1}) == "v[i0 * 5 + i2]");
    CHECK(detail::c_at("v", map, {10, 5, 1}, 3) == "v[3 + i0 * 10 + i2]");
    CHECK(detail::c_at("v", map, {0, 0, 0}) == "v[0]");
    CHECK(detail::c_strides({}).empty());
    CHECK(detail::c_loops(map, "f(i0, i2)") == "    for (int i0 = 0; i0 < 2; ++i0)\n"
                                               "        for (int i2 = 0; i2 < 5; ++i2)\n"
                                               "            f(i0, i2);\n");
    CHECK(detail::c_loops({1}, "v[i0] = 0") == "    for (int i0 = 0; i0 < 1; ++i0)\n        v[i0] = 0;\n");
    CHECK(detail::c_loops({}, "f()") == "    f();\n");
}

TEST_CASE("c_quoted and c_comment: nothing ends the literal or the comment") {
    CHECK(detail::c_quoted("a b") == "\"a b\"");
    CHECK(detail::c_quoted("\"\\\n?") == R"("\042\134\012\077")"); // no trigraphs either
    CHECK(detail::c_comment("a.b*/\n\xff") == "a.b____");
}
