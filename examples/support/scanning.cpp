#include "scanning.hpp"

#include <espalier/data/atomic_file.hpp>
#include <espalier/io/sensitivity_file.hpp>
#include <espalier/report/sensitivity_plot.hpp>

#include <iostream>

namespace espalier::programs {

void scan_to_folder(const std::vector<models::Model<float>*>& replicas, const Shape& image, const Settings& settings,
                    const Scan& scan, const std::function<double(models::Model<float>&)>& accuracy) {
    const std::string file = settings.out + "/sensitivity.csv", drawn = settings.out + "/sensitivity.svg";
    const auto say = [](const pruning::SensitivityPoint& p) {
        std::cout << (p.group.empty() ? "nothing cut"
                                      : join_text(p.group, ": ", p.width - p.kept, " of ", p.width, " channels gone"))
                  << join_text(", accuracy ", 100 * p.score, " %") << std::endl;
    };
    const auto points = pruning::scan_sensitivity(
        replicas, image, accuracy,
        {.criterion = scan.criterion, .ratios = settings.ratios, .joins = settings.joins, .measured = say}, file);
    AtomicFile plot(drawn);
    plot.write(report::sensitivity_plot(points, {.title = scan.title, .y_label = scan.score}));
    plot.commit();
    std::cout << "points in " << file << ", plot in " << drawn << std::endl;
}

} // namespace espalier::programs
