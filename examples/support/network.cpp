#include "network.hpp"

#include <espalier/models/create.hpp>

namespace espalier::programs {

std::shared_ptr<models::Model<float>> make_network(const std::string& name, const models::Options& options) {
    return models::create<float>(name, options);
}

std::string network_names() {
    std::string all;
    for (const std::string& name : models::names()) all += (all.empty() ? "" : ", ") + name;
    return all;
}

} // namespace espalier::programs
