#include "support/check.hpp"
#include "support/file_size_limit.hpp"
#include "support/temporary_path.hpp"

#include <espalier/train/csv_log.hpp>

#include <fstream>
#include <limits>

using namespace espalier;
using namespace espalier::test;

namespace {

const std::vector<std::string> columns{"step", "loss"};

} // namespace

TEST_CASE("csv_log: a header once, each row at once, numbers exact") {
    const TemporaryPath file;
    CsvLog log(file.path, columns);
    CHECK(slurp(file.path) == "step,loss\n");
    log.row({1, 0.1});
    CHECK(slurp(file.path) == "step,loss\n1,0.1\n");
    log.row({2, std::numeric_limits<double>::quiet_NaN()});
    log.row({1e6, -std::numeric_limits<double>::min()});
    CHECK(slurp(file.path) == "step,loss\n1,0.1\n2,nan\n1000000,-2.2250738585072014e-308\n");
}

TEST_CASE("csv_log: resuming removes rows beyond the step and a torn one, and goes on behind the rest") {
    const TemporaryPath file;
    { CsvLog::resume(file.path, columns, 5).row({10, 1}); } // no file yet: a new one
    std::ofstream(file.path, std::ios::app) << "20,2\n30,3\n40,4";
    CsvLog::resume(file.path, columns, 50).row({40, 4.5});
    CHECK(slurp(file.path) == "step,loss\n10,1\n20,2\n30,3\n40,4.5\n");
    CsvLog::resume(file.path, columns, 29).row({30, 5});
    CHECK(slurp(file.path) == "step,loss\n10,1\n20,2\n30,5\n");
    CsvLog::resume(file.path, columns, 0);
    CHECK(slurp(file.path) == "step,loss\n");
}

TEST_CASE("csv_log: a million steps are a whole number that resuming understands") {
    const TemporaryPath file;
    {
        CsvLog log(file.path, columns);
        for (const double step : {99999.0, 100000.0, 1000000.0, 12345678.0}) log.row({step, 0});
    }
    CsvLog::resume(file.path, columns, 1000000);
    CHECK(slurp(file.path) == "step,loss\n99999,0\n100000,0\n1000000,0\n");
}

TEST_CASE("csv_log: a file of other columns is refused and left as it was") {
    const TemporaryPath file;
    std::ofstream(file.path) << "a,b\n1,2\n";
    CHECK_THROWS_WITH_AS(CsvLog::resume(file.path, columns, 0), doctest::Contains("the header 'step,loss'"), IoError);
    CHECK(slurp(file.path) == "a,b\n1,2\n");
    std::ofstream(file.path) << "step,loss\nx,2\n";
    CHECK_THROWS_WITH_AS(CsvLog::resume(file.path, columns, 0), doctest::Contains("got 'x,2'"), IoError);
    CHECK(slurp(file.path) == "step,loss\nx,2\n");
}

TEST_CASE("csv_log: on a full disk an older log stays whole, and so does what was logged before") {
    const TemporaryPath file;
    {
        CsvLog log(file.path, columns);
        log.row({1, 0.1});
        const test::FileSizeLimit limit(20);
        CHECK_THROWS_WITH_AS(log.row({2, 0.25}), doctest::Contains("expected to append 7 bytes to '"), IoError);
    }
    CHECK(slurp(file.path).starts_with("step,loss\n1,0.1\n"));
    const std::string before = slurp(file.path);
    const test::FileSizeLimit limit(5);
    CHECK_THROWS_AS(CsvLog(file.path, columns), IoError);
    CHECK_THROWS_AS(CsvLog::resume(file.path, columns, 1), IoError);
    CHECK(slurp(file.path) == before);
}

TEST_CASE("csv_log: a folder that is missing and a wrong row are errors") {
    CHECK_THROWS_WITH_AS(CsvLog("/nonexistent/log.csv", columns), doctest::Contains("No such file"), IoError);
    const TemporaryPath file;
    CsvLog log(file.path, columns);
    CHECK_THROWS_WITH_AS(log.row({1}), doctest::Contains("expected 2 values"), ShapeError);
    CHECK_THROWS_WITH_AS(CsvLog(file.path, {}), doctest::Contains("at least one column"), ShapeError);
}
