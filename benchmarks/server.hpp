#pragma once

#include <espalier/core/error.hpp>

#include <nlohmann/json.hpp>

#include <exception>
#include <functional>
#include <iostream>
#include <map>
#include <string>

namespace espalier::bench {

using Json = nlohmann::json;

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
