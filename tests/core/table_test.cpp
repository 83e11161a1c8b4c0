#include "support/check.hpp"

#include <espalier/core/table.hpp>

using namespace espalier;

TEST_CASE("table: text is aligned, numbers to the right") {
    Table table({"model", "accuracy", "note"});
    table.row({"resnet20", "92.5 \u00b1 0.1", "a"}).row({"vgg16", "-", "longer"}).row({"x", "8 %", ""});
    CHECK(table.text() == "model       accuracy  note\n"
                          "--------  ----------  ------\n"
                          "resnet20  92.5 \u00b1 0.1  a\n"
                          "vgg16              -  longer\n"
                          "x                8 %\n");
}

TEST_CASE("table: a name that starts with a digit is no number") {
    Table table({"tensor", "share", "step"});
    table.row({"0.weight", "12 %", "1e-5"}).row({"10_b", "3", "0.5,"}).row({"-", "~ 7", ""});
    CHECK(table.text() == "tensor    share  step\n"
                          "--------  -----  ----\n"
                          "0.weight   12 %  1e-5\n"
                          "10_b          3  0.5,\n"
                          "-           ~ 7\n");
}

TEST_CASE("table: markdown escapes bars and line feeds") {
    Table table({"a|b", "n"});
    table.row({"x\ny", "-1.5"});
    CHECK(table.markdown() == "| a\\|b |    n |\n"
                              "|------|-----:|\n"
                              "| x y  | -1.5 |\n");
}

TEST_CASE("table: a header alone and a wrong row") {
    CHECK(Table({"a", ""}).text() == "a\n-  -\n");
    CHECK_THROWS_WITH_AS(Table({"a", "b"}).row({"1"}), "Table: expected 2 cells, got 1", ShapeError);
}
