#include "support/check.hpp"

#include <espalier/report/progress_bar.hpp>

using namespace espalier;
using report::ProgressBar, report::ProgressStyle;

namespace {

Progress at(Index step, double seconds) {
    return {.at = {.epoch = step / 10, .batch = step % 10, .step = step},
            .epochs = 10,
            .batches = 10,
            .steps = 100,
            .mean = {.total = 1.25},
            .accuracy = 0.5,
            .learning_rate = 0.1,
            .seconds = seconds,
            .seconds_left = 3723,
            .images_per_second = 812.4};
}
/// What `use` printed to a file.
template <class F> std::string printed(ProgressStyle style, const F& use) {
    std::FILE* const file = std::tmpfile();
    {
        ProgressBar bar(file, style);
        use(bar);
    }
    std::rewind(file);
    std::string text(4096, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), file));
    std::fclose(file);
    return text;
}
Index lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

} // namespace

TEST_CASE("progress_bar: durations") {
    CHECK(report::duration_text(0) == "0:00");
    CHECK(report::duration_text(59.6) == "1:00");
    CHECK(report::duration_text(3599) == "59:59");
    CHECK(report::duration_text(3600) == "1:00:00");
    CHECK(report::duration_text(360000) == "100:00:00");
    CHECK(report::duration_text(-1) == "0:00");
}

TEST_CASE("progress_bar: one line says it all") {
    CHECK(report::progress_text(at(25, 0)) ==
          "epoch 3/10  25%  loss 1.2500  accuracy 50.00%  rate 0.1  812 images/s  1:02:03 left");
    CHECK(report::progress_text(at(25, 0), 8).starts_with("epoch 3/10 [##......]  25%"));
    CHECK(report::progress_text(at(100, 0), 8).starts_with("epoch 10/10 [########] 100%"));
    CHECK(report::progress_text(Progress{}, 4).starts_with("epoch 0/0 [####] 100%"));
}

TEST_CASE("progress_bar: lines come every few seconds, first and last always, with nothing for terminals in them") {
    const std::string text = printed(ProgressStyle::lines, [](ProgressBar& bar) {
        for (Index step = 1; step <= 100; ++step) bar.show(at(step, 0.3 * static_cast<double>(step)));
    });
    CHECK(lines(text) == 7); // steps 1, 18, 35, 52, 69, 86 and 100
    CHECK(text.find('\r') == std::string::npos);
    CHECK(text.find('\x1b') == std::string::npos);
    const std::string automatic = printed(ProgressStyle::automatic, [](ProgressBar& bar) { bar.show(at(1, 0)); });
    CHECK(automatic == report::progress_text(at(1, 0)) + "\n"); // a file is no terminal
}

TEST_CASE("progress_bar: a bar is drawn over itself, ten times a second at most, and ends its line once") {
    const std::string whole = printed(ProgressStyle::bar, [](ProgressBar& bar) {
        bar.show(at(1, 0));
        bar.show(at(2, 0.05));
        bar.show(at(3, 0.2));
        bar.show(at(100, 0.21));
    });
    CHECK(std::count(whole.begin(), whole.end(), '\r') == 3);
    CHECK(lines(whole) == 1);
    CHECK(whole.back() == '\n');
    const std::string cut_short = printed(ProgressStyle::bar, [](ProgressBar& bar) { bar.show(at(1, 0)); });
    CHECK(lines(cut_short) == 1);
    CHECK(printed(ProgressStyle::bar, [](ProgressBar&) {}).empty());
}

TEST_CASE("progress_bar: a second run of the same bar is shown from its start") {
    CHECK(lines(printed(ProgressStyle::lines, [](ProgressBar& bar) {
              bar.show(at(1, 100));
              bar.show(at(1, 0));
          })) == 2);
}
