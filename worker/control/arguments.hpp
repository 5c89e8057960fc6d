// SPDX-License-Identifier: Apache-2.0
//
// The fields of a request. Errors are collected: read all, then ask `finish` once before using what was read.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "error/error.hpp"
#include "worker/control/server.hpp"

namespace bulkhead::worker::control {

class Arguments {
 public:
  explicit Arguments(const Json& request) : request_(request) {}

  bool has(std::string_view name) const { return request_.contains(name); }
  /// Text that must be there, or the default.
  std::string text(std::string_view name);
  std::string text(std::string_view name, std::string_view otherwise);
  /// A whole number from 0 on.
  std::uint64_t number(std::string_view name, std::uint64_t otherwise);
  /// A whole number that must be there, from 0 to the maximum.
  std::uint64_t number_up_to(std::string_view name, std::uint64_t maximum);
  /// One of these texts, or the default.
  std::string choice(std::string_view name, std::string_view otherwise,
                     std::initializer_list<std::string_view> choices);
  bool flag(std::string_view name);
  /// A list of texts; empty if it is not there.
  std::vector<std::string> texts(std::string_view name);

  /// What was wrong first, or a field that nobody read.
  Result<> finish() const;

 private:
  const Json* find(std::string_view name);
  void complain(std::string what);

  const Json& request_;
  std::set<std::string, std::less<>> read_ = {"id", "do"};
  std::string complaint_;
};

}  // namespace bulkhead::worker::control
