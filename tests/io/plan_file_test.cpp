#include "support/check.hpp"

#include <espalier/io/plan_file.hpp>

#include <filesystem>
#include <fstream>

using namespace espalier;

namespace {

struct TemporaryFile {
    std::string path = (std::filesystem::temp_directory_path() / "espalier_plan_file_test.json").string();
    ~TemporaryFile() { std::filesystem::remove(path); }
    void write(const std::string& text) const { std::ofstream(path) << text; }
    std::string read() const {
        std::ifstream in(path);
        return {std::istreambuf_iterator<char>(in), {}};
    }
};

pruning::Plan small_plan() {
    pruning::Plan plan;
    plan.criterion = "filter l1";
    plan.joins = pruning::Joins::indexed;
    plan.image = {8, 8, 3};
    plan.groups.push_back({"a.conv", 4, {0, 2}, {1, 0.25, 2, 0.5}, "", false});
    plan.groups.push_back({"head", 2, {0, 1}, {}, "output", true});
    plan.before = {100, 1000, 6};
    plan.after = {50, 500, 4};
    plan.milliseconds_before = 1.5;
    plan.milliseconds_after = 0.75;
    return plan;
}

} // namespace

TEST_CASE("plan file: what is saved is read back") {
    const TemporaryFile file;
    save_plan(small_plan(), file.path);
    const pruning::Plan plan = load_plan(file.path);
    CHECK(plan.criterion == "filter l1");
    CHECK(plan.joins == pruning::Joins::indexed);
    CHECK(plan.milliseconds_before == 1.5);
    CHECK(plan.milliseconds_after == 0.75);
    CHECK(plan.image == Shape{8, 8, 3});
    REQUIRE(plan.groups.size() == 2);
    CHECK(plan.groups[0].kept == std::vector<Index>{0, 2});
    CHECK(plan.groups[0].scores == std::vector<double>{1, 0.25, 2, 0.5});
    CHECK(plan.groups[1].blocked);
    CHECK(plan.groups[1].note == "output");
    CHECK(plan.after == Cost{50, 500, 4});
}

TEST_CASE("plan file: what is no plan is one error that names the file") {
    const TemporaryFile file;
    CHECK_THROWS_WITH_AS(load_plan(file.path + ".not_there"), doctest::Contains("not_there"), IoError);
    save_plan(small_plan(), file.path);
    const std::string good = file.read();
    const auto fails = [&](const std::string& text, const char* reason) {
        file.write(text);
        CHECK_THROWS_WITH_AS(load_plan(file.path), doctest::Contains(reason), IoError);
    };
    const auto with = [&](const std::string& from, const std::string& to) {
        std::string text = good;
        return text.replace(text.find(from), from.size(), to);
    };
    fails("", "at byte");
    fails(good.substr(0, good.size() / 2), "at byte");
    fails("[1, 2]", "espalier plan 1");
    fails(with("espalier plan 1", "espalier plan 9"), "got espalier plan 9");
    fails(with("\"indexed\"", "\"loose\""), "got loose");
    fails(with("[8,8,3]", "[8,8]"), "an image [H,W,C]");
    fails(with("[8,8,3]", "[8,0,3]"), "a positive image");
    fails(with("\"kept\":[0,2]", "\"kept\":\"all\""), "a list of channels or extents");
    fails(with("\"criterion\": \"filter l1\"", "\"criterion\": 1"), "entries of a plan");
    for (const char* number : {"4.5", "1e300", "true", "18446744073709551615", "null"})
        fails(with("\"width\":4", std::string("\"width\":") + number), "a whole number below 2^63");
    fails(with("\"kept\":[0,2]", "\"kept\":[0,0.5]"), "got 0.5");
    const std::string deep = std::string(100'000, '[') + std::string(100'000, ']'); // as many calls, one in the other
    fails(deep, "at most 16 levels");
    fails(with("\"indexed\"", deep), "at most 16 levels");
    fails(with("\"name\":\"a.conv\"", "\"nom\":\"a.conv\""), "name");
}
