// SPDX-License-Identifier: Apache-2.0
#include "worker/control/arguments.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace bulkhead::worker::control {

const Json* Arguments::find(std::string_view name) {
  read_.emplace(name);
  const auto found = request_.find(name);
  return found == request_.end() ? nullptr : &*found;
}

void Arguments::complain(std::string what) {
  if (complaint_.empty()) complaint_ = std::move(what);
}

std::string Arguments::text(std::string_view name) {
  if (!has(name)) complain(fmt::format("\"{}\" is missing", name));
  return text(name, "");
}

std::string Arguments::text(std::string_view name, std::string_view otherwise) {
  const Json* value = find(name);
  if (value == nullptr) return std::string(otherwise);
  if (value->is_string()) return value->get<std::string>();
  complain(fmt::format("\"{}\" is not a text", name));
  return {};
}

std::uint64_t Arguments::number(std::string_view name, std::uint64_t otherwise) {
  const Json* value = find(name);
  if (value == nullptr) return otherwise;
  if (value->is_number_unsigned()) return value->get<std::uint64_t>();
  complain(fmt::format("\"{}\" is not a whole number", name));
  return 0;
}

std::uint64_t Arguments::number_up_to(std::string_view name, std::uint64_t maximum) {
  if (!has(name)) complain(fmt::format("\"{}\" is missing", name));
  const std::uint64_t value = number(name, 0);
  if (value > maximum) complain(fmt::format("\"{}\" is more than {}", name, maximum));
  return value;
}

std::string Arguments::choice(std::string_view name, std::string_view otherwise,
                              std::initializer_list<std::string_view> choices) {
  std::string value = text(name, otherwise);
  if (std::ranges::find(choices, value) == choices.end()) {
    complain(fmt::format("\"{}\" is none of {}", name, fmt::join(choices, ", ")));
  }
  return value;
}

bool Arguments::flag(std::string_view name) {
  const Json* value = find(name);
  if (value == nullptr) return false;
  if (value->is_boolean()) return value->get<bool>();
  complain(fmt::format("\"{}\" is neither true nor false", name));
  return false;
}

std::vector<std::string> Arguments::texts(std::string_view name) {
  const Json* value = find(name);
  std::vector<std::string> list;
  if (value == nullptr) return list;
  if (!value->is_array()) complain(fmt::format("\"{}\" is not a list", name));
  for (const auto& entry : *value) {
    if (entry.is_string())
      list.push_back(entry.get<std::string>());
    else
      complain(fmt::format("\"{}\" has something in it that is not a text", name));
  }
  return list;
}

Result<> Arguments::finish() const {
  if (!complaint_.empty()) return fail(complaint_);
  for (const auto& [name, value] : request_.items()) {
    if (!read_.contains(name)) return fail(fmt::format("\"{}\" is not known here", name));
  }
  return {};
}

}  // namespace bulkhead::worker::control
