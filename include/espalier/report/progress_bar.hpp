#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/core/error.hpp>
#include <espalier/train/progress.hpp>

#include <cstdio>
#include <string>

namespace espalier::inline ESPALIER_BACKEND {
/// Plots and progress for people.
namespace report {

/// `1:02:03`, or `2:03` below an hour.
std::string duration_text(double seconds);

/// One line about a run: epoch, share of the steps, mean loss and accuracy of the epoch, rate, speed, time left; with a
/// bar of `bar_width` characters if that is positive.
std::string progress_text(const Progress& p, int bar_width = 0);

/// How a `ProgressBar` shows a run.
enum class ProgressStyle {
    automatic, ///< a bar where `to` is a terminal, else lines
    bar,       ///< one line that is drawn again and again
    lines,     ///< plain lines, a few seconds apart: for files and pipes
};

/// Shows a run to whoever watches it; pass `show` on to the trainer as a hook after steps.
///
///     es::report::ProgressBar bar(stderr);
///     options.after_step.push_back([&](const es::Progress& p) { bar.show(p); });
class ProgressBar {
public:
    /// @param seconds_between  least time between two lines; a bar is drawn again after a tenth of a second
    explicit ProgressBar(std::FILE* to, ProgressStyle style = ProgressStyle::automatic, double seconds_between = 5);
    /// Leaves the cursor on a line of its own, also when an error ends the run.
    ~ProgressBar();
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;

    /// Shows the first and last step, and others when it is time.
    void show(const Progress& p);

private:
    std::size_t columns() const;

    std::FILE* to_;
    bool bar_, open_ = false;
    double between_, shown_ = -1e9;
};

} // namespace report
} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <algorithm>
#include <cmath>

#include <sys/ioctl.h>
#include <unistd.h>

namespace espalier::inline ESPALIER_BACKEND {
namespace report {

ESPALIER_BODY std::string duration_text(double seconds) {
    const auto whole = static_cast<long long>(std::clamp(std::round(seconds), 0.0, 1e9));
    char text[32];
    if (whole < 3600)
        std::snprintf(text, sizeof text, "%lld:%02lld", whole / 60, whole % 60);
    else
        std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
    return text;
}

ESPALIER_BODY std::string progress_text(const Progress& p, int bar_width) {
    const double share = p.steps > 0 ? static_cast<double>(p.at.step) / static_cast<double>(p.steps) : 1;
    std::string text = join_text("epoch ", std::min(p.at.epoch + 1, p.epochs), "/", p.epochs, " ");
    if (bar_width > 0) {
        const auto full = static_cast<std::size_t>(share * bar_width);
        text += "[" + std::string(full, '#') + std::string(static_cast<std::size_t>(bar_width) - full, '.') + "] ";
    }
    char numbers[160];
    std::snprintf(numbers, sizeof numbers, "%3.0f%%  loss %.4f  accuracy %.2f%%  rate %.3g  %.0f images/s  %s left",
                  std::floor(100 * share), p.mean.total, 100 * p.accuracy, p.learning_rate, p.images_per_second,
                  duration_text(p.seconds_left).c_str());
    return text + numbers;
}

ESPALIER_BODY ProgressBar::ProgressBar(std::FILE* to, ProgressStyle style, double seconds_between)
    : to_(to), bar_(style == ProgressStyle::bar || (style == ProgressStyle::automatic && ::isatty(::fileno(to)) == 1)),
      between_(bar_ ? 0.1 : seconds_between) {}

ESPALIER_BODY ProgressBar::~ProgressBar() {
    if (open_) std::fputc('\n', to_);
}

ESPALIER_BODY void ProgressBar::show(const Progress& p) {
    const bool ends = p.at.step >= p.steps;
    if (!ends && p.seconds >= shown_ && p.seconds < shown_ + between_) return; // an earlier time: another run
    shown_ = p.seconds;
    if (bar_) {
        const std::string text = progress_text(p, 20).substr(0, columns() - 1); // a wrapped line would stay behind
        std::fprintf(to_, "\r%s\x1b[K%s", text.c_str(), ends ? "\n" : "");
    } else {
        std::fprintf(to_, "%s\n", progress_text(p).c_str());
    }
    open_ = bar_ && !ends;
    std::fflush(to_);
}

ESPALIER_BODY std::size_t ProgressBar::columns() const {
    winsize size{};
    return ::ioctl(::fileno(to_), TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 120;
}

} // namespace report
} // namespace espalier::inline ESPALIER_BACKEND
#endif
