#pragma once

#include <espalier/core/compiled.hpp>
#include <espalier/pruning/plan.hpp>

#include <string>

// Not part of espalier.hpp: headers alone, it includes the JSON library, which costs seconds to compile.

namespace espalier::inline ESPALIER_BACKEND {

/// Writes a plan as JSON that people can edit: under `groups`, each with its `kept` channels. Atomic, as all our files.
void save_plan(const pruning::Plan& plan, const std::string& path);

/// Reads a plan; whether it fits a network is for `pruning::apply` to say.
/// @throws IoError naming the file, and the byte or the entry that is wrong
pruning::Plan load_plan(const std::string& path);

} // namespace espalier::inline ESPALIER_BACKEND

#if ESPALIER_BODIES
#include <espalier/data/atomic_file.hpp>
#include <espalier/io/json.hpp>

#include <fstream>
#include <iterator>

namespace espalier::inline ESPALIER_BACKEND {

ESPALIER_BODY void save_plan(const pruning::Plan& plan, const std::string& path) {
    using Json = nlohmann::ordered_json;
    const auto cost = [](const Cost& c) {
        return Json{{"parameters", c.parameters}, {"macs", c.macs}, {"filters", c.filters}};
    };
    Json json{{"format", "espalier plan 1"},
              {"criterion", plan.criterion},
              {"joins", pruning::to_text(plan.joins)},
              {"image", std::vector<Index>(plan.image.begin(), plan.image.end())},
              {"before", cost(plan.before)},
              {"after", cost(plan.after)},
              {"milliseconds", {plan.milliseconds_before, plan.milliseconds_after}},
              {"groups", Json::array()}};
    for (const pruning::PlannedGroup& g : plan.groups)
        json["groups"].push_back({{"name", g.name},
                                  {"width", g.width},
                                  {"kept", g.kept},
                                  {"blocked", g.blocked},
                                  {"note", g.note},
                                  {"scores", g.scores}});
    // One line a group: a plan is read and edited by people.
    std::string text = "{\n";
    for (const auto& [key, value] : json.items()) {
        if (key == "groups") continue;
        text += "  " + Json(key).dump() + ": " + value.dump() + ",\n";
    }
    text += "  \"groups\": [";
    for (std::size_t i = 0; i < json["groups"].size(); ++i)
        text += (i ? ",\n    " : "\n    ") + json["groups"][i].dump();
    text += "\n  ]\n}\n";
    AtomicFile file(path);
    file.write(text);
    file.commit();
}

ESPALIER_BODY pruning::Plan load_plan(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    expect<IoError>(in.good(), "load_plan: expected a plan in ", path, ", got no readable file");
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    try {
        const auto json = detail::parse_json("load_plan", text, path);
        const auto whole = [&](const nlohmann::json& value) { return detail::whole_number("load_plan", value, path); };
        const auto all_whole = [&](const nlohmann::json& list) {
            expect<IoError>(list.is_array(), "load_plan: expected a list of channels or extents in ", path, ", got ",
                            list.dump());
            std::vector<Index> numbers;
            for (const auto& value : list) numbers.push_back(whole(value));
            return numbers;
        };
        expect<IoError>(json.is_object() && json.value("format", "") == "espalier plan 1",
                        "load_plan: expected \"format\": \"espalier plan 1\" in ", path, ", got ",
                        json.is_object() ? json.value("format", "none") : "no object");
        const auto cost = [&](const char* key) {
            const auto& c = json.at(key);
            return Cost{whole(c.at("parameters")), whole(c.at("macs")), whole(c.at("filters"))};
        };
        pruning::Plan plan;
        plan.criterion = json.at("criterion").get<std::string>();
        const std::string joins = json.at("joins").get<std::string>();
        expect<IoError>(joins == "coupled" || joins == "indexed" || joins == "mixed",
                        "load_plan: expected joins coupled, indexed or mixed in ", path, ", got ", joins);
        plan.joins = joins == "indexed" ? pruning::Joins::indexed
                     : joins == "mixed" ? pruning::Joins::mixed
                                        : pruning::Joins::coupled;
        const auto image = all_whole(json.at("image"));
        expect<IoError>(image.size() == 3, "load_plan: expected an image [H,W,C] in ", path, ", got ", image);
        for (const Index extent : image) {
            expect<IoError>(extent > 0, "load_plan: expected a positive image [H,W,C] in ", path, ", got ", image);
            plan.image.append(extent);
        }
        plan.before = cost("before");
        plan.after = cost("after");
        if (const auto predicted = json.value("milliseconds", std::vector<double>()); predicted.size() == 2) {
            plan.milliseconds_before = predicted[0];
            plan.milliseconds_after = predicted[1];
        }
        for (const auto& g : json.at("groups"))
            plan.groups.push_back({.name = g.at("name").get<std::string>(),
                                   .width = whole(g.at("width")),
                                   .kept = all_whole(g.at("kept")),
                                   .scores = g.value("scores", std::vector<double>()),
                                   .note = g.value("note", ""),
                                   .blocked = g.value("blocked", false)});
        return plan;
    } catch (const nlohmann::json::parse_error& error) {
        throw IoError(join_text("load_plan: expected JSON in ", path, ", got an error at byte ", error.byte));
    } catch (const nlohmann::json::exception& error) {
        throw IoError(join_text("load_plan: expected the entries of a plan in ", path, ", got ", error.what()));
    }
}

} // namespace espalier::inline ESPALIER_BACKEND
#endif
