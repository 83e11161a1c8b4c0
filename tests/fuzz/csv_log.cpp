// The input: a byte that says up to which step to resume, then the log.

#include "fuzz.hpp"

#include <espalier/train/csv_log.hpp>

using namespace espalier;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Index last = size > 0 ? data[0] : 0;
    const std::string path = fuzz::write("log.csv", size > 0 ? data + 1 : data, data + size);
    const auto resume = [&] {
        CsvLog::resume(path, {"step", "loss"}, last).row({1, 0.5});
        return true;
    };
    if (fuzz::read(resume)) fuzz::require(fuzz::read(resume).has_value()); // what it leaves is a log
    return 0;
}
