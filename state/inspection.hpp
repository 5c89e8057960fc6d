// SPDX-License-Identifier: Apache-2.0
//
// A live tree of a machine's state, for people and tests: named values, and named children.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace bulkhead::state {

class Inspection {
 public:
  using Value = std::variant<bool, std::uint64_t, std::string>;

  Inspection& value(std::string_view name, bool value) { return add(name, Value(value)); }
  Inspection& value(std::string_view name, std::uint64_t value) { return add(name, Value(value)); }
  Inspection& value(std::string_view name, std::string_view value) { return add(name, Value(std::string(value))); }
  Inspection& value(std::string_view name, const char* value) { return add(name, Value(std::string(value))); }
  /// A new child, to be filled by the caller; valid until the next child is added.
  Inspection& child(std::string_view name) { return children_.emplace_back(std::string(name), Inspection()).second; }

  const std::vector<std::pair<std::string, Value>>& values() const { return values_; }
  const std::vector<std::pair<std::string, Inspection>>& children() const { return children_; }

 private:
  Inspection& add(std::string_view name, Value value) {
    values_.emplace_back(std::string(name), std::move(value));
    return *this;
  }

  std::vector<std::pair<std::string, Value>> values_;
  std::vector<std::pair<std::string, Inspection>> children_;
};

}  // namespace bulkhead::state
