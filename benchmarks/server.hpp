#pragma once

#include <espalier/tensor/device.hpp>

#include <nlohmann/json.hpp>

#include <exception>
#include <functional>
#include <iostream>
#include <map>
#include <string>

namespace espalier::bench {

using Json = nlohmann::json;

/// Where a row is to be done: its "device", else the CPU.
inline Device device_of(const Json& row) { return row.value("device", "cpu") == "cuda" ? Device::cuda : Device::cpu; }
/// Calls between two looks at the clock: a GPU is waited for then, and is not to run dry each time.
inline Index group_of(const Json& row) { return row.value("group", Index(1)); }
/// What convolutions on a GPU are rounded to: its "precision", else nothing.
inline MatmulPrecision precision_of(const Json& row) {
    const std::string name = row.value("precision", "fp32");
    expect(name == "fp32" || name == "tf32" || name == "bf16", "precision: expected fp32, tf32 or bf16, got ", name);
    return name == "tf32" ? MatmulPrecision::tf32 : name == "bf16" ? MatmulPrecision::bf16 : MatmulPrecision::fp32;
}

/// What a program does for bench.py: named commands that take a JSON object and answer with one.
using Commands = std::map<std::string, std::function<Json(const Json&)>>;

/// Answers requests, one line of JSON each, until the input ends: the command's name is under "do". A program that
/// stays keeps its threads, memory and inputs warm while others take their turns. An exception is answered as an
/// "error".
inline int serve(const Commands& commands) {
    for (std::string line; std::getline(std::cin, line);) {
        Json answer;
        try {
            const Json request = Json::parse(line);
            const auto command = commands.find(request.at("do").get<std::string>());
            expect(command != commands.end(), "serve: expected a command of this program, got ", line);
            answer = command->second(request);
        } catch (const std::exception& error) {
            answer = {{"error", error.what()}};
        }
        std::cout << answer.dump() << std::endl; // flushed: somebody waits for it
    }
    return 0;
}

} // namespace espalier::bench
