#pragma once

#include <espalier/autograd/var.hpp>

#include <string>

namespace espalier::test {

/// A channel rule as one line, for instance `0.-1[0+3]=y.-1[2] 1.0 makes y.-1 block 0 (why) moves zero`.
///
/// `operand.axis[begin+count]=other.axis[other_begin]`, where ranges that cover the whole axis are left out.
inline std::string rule_text(const ChannelRule& rule) {
    if (!rule.is_declared()) return "undeclared";
    const auto operand = [](int number) { return number == ChannelRule::output ? std::string("y") : to_text(number); };
    std::string text = "declared";
    for (const ChannelLink& link : rule.links()) {
        text += " " + operand(link.operand) + "." + to_text(link.axis);
        if (link.begin != 0 || link.count != -1) text += join_text("[", link.begin, "+", link.count, "]");
        text += link.role == ChannelRole::makes ? " makes " : link.role == ChannelRole::eats ? " eats " : "=";
        text += operand(link.other) + "." + to_text(link.other_axis);
        if (link.other_begin != 0) text += join_text("[", link.other_begin, "]");
        if (link.period != -1) text += join_text("%", link.period);
        if (link.joined) text += " joined";
    }
    for (const auto& [number, begin, count, reason] : rule.blocked()) {
        text += " block " + operand(number);
        if (begin != 0 || count != -1) text += join_text("[", begin, "+", count, "]");
        text += " (" + reason + ")";
    }
    return text + (rule.keeps_zero() ? "" : " moves zero");
}
template <class T> std::string rule_text(const Var<T>& y) { return rule_text(y.node()->rule); }

} // namespace espalier::test
