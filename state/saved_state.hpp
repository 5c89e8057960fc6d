// SPDX-License-Identifier: Apache-2.0
//
// Saved state: what a stopped state unit writes down of itself. It is a format of its own, apart from the run-time
// types: a unit has a version, and named fields that are numbers, byte strings or lists of such units.
// A reader names every field that it knows; what is left over afterwards, or missing, is an error and never a guess.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "error/error.hpp"

namespace bulkhead::state {

class SavedUnit;
using SavedBytes = std::vector<std::uint8_t>;
using SavedList = std::vector<SavedUnit>;
using SavedValue = std::variant<std::uint64_t, SavedBytes, SavedList>;

class SavedUnit {
 public:
  explicit SavedUnit(std::uint32_t version = 1) : version_(version) {}

  std::uint32_t version() const { return version_; }
  const std::map<std::string, SavedValue, std::less<>>& fields() const { return fields_; }

  /// Adds a field; a name is given once.
  SavedUnit& number(std::string_view name, std::uint64_t value);
  SavedUnit& bytes(std::string_view name, std::span<const std::uint8_t> value);
  SavedUnit& list(std::string_view name, SavedList value);

  /// A tagged, self-delimiting byte form (little endian) that `parse` reads back.
  SavedBytes serialize() const;
  /// Errors: cut short, trailing bytes, unknown tag, a name twice, nesting deeper than 8.
  static Result<SavedUnit> parse(std::span<const std::uint8_t> data);

  bool operator==(const SavedUnit&) const = default;

 private:
  std::uint32_t version_;
  std::map<std::string, SavedValue, std::less<>> fields_;
};

/// Reads one SavedUnit. Errors are collected: read all fields, then ask `finish()` once before using what was read.
///
///   SavedReader reader(saved, "pit", 1);
///   auto mode = reader.number("mode", 5);          // at most 5
///   auto count = reader.number("count", 0xffff);
///   if (auto ok = reader.finish(); !ok) return ok;
class SavedReader {
 public:
  /// `unit_name` is for messages. A version other than `version` is an error.
  SavedReader(const SavedUnit& unit, std::string_view unit_name, std::uint32_t version);

  /// The number, or 0 where it is missing or greater than `maximum`.
  std::uint64_t number(std::string_view name, std::uint64_t maximum = UINT64_MAX);
  bool flag(std::string_view name) { return number(name, 1) != 0; }
  /// The bytes; exactly `size` of them, or zeros where there are not.
  SavedBytes bytes(std::string_view name, std::size_t size);
  /// The bytes, at most `maximum` of them.
  SavedBytes bytes_up_to(std::string_view name, std::size_t maximum);
  /// The list; exactly `count` units, or none.
  SavedList list(std::string_view name, std::size_t count);

  /// The first thing that was wrong, or a field that nobody read.
  Result<> finish() const;

 private:
  template <typename T>
  const T* find(std::string_view name);
  void complain(std::string message);

  const SavedUnit& unit_;
  std::string unit_name_;
  std::map<std::string, bool, std::less<>> read_;
  std::string complaint_;
};

}  // namespace bulkhead::state
