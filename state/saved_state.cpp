// SPDX-License-Identifier: Apache-2.0
#include "state/saved_state.hpp"

#include <fmt/format.h>
#include <cassert>
#include <optional>

namespace bulkhead::state {
namespace {

// The byte form of a unit: version u32, field count u32, then for each field
//   name length u8, name, tag u8, and: number u64 | byte count u32, bytes | unit count u32, units.
enum class Tag : std::uint8_t { Number = 1, Bytes = 2, List = 3 };
constexpr unsigned kMaximumDepth = 8;

void append(SavedBytes& to, std::uint64_t value, unsigned size) {
  for (unsigned i = 0; i < size; ++i) to.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

void append_unit(SavedBytes& to, const SavedUnit& unit) {
  append(to, unit.version(), 4);
  append(to, unit.fields().size(), 4);
  for (const auto& [name, value] : unit.fields()) {
    append(to, name.size(), 1);
    to.insert(to.end(), name.begin(), name.end());
    if (const auto* number = std::get_if<std::uint64_t>(&value)) {
      append(to, static_cast<std::uint8_t>(Tag::Number), 1);
      append(to, *number, 8);
    } else if (const auto* bytes = std::get_if<SavedBytes>(&value)) {
      append(to, static_cast<std::uint8_t>(Tag::Bytes), 1);
      append(to, bytes->size(), 4);
      to.insert(to.end(), bytes->begin(), bytes->end());
    } else {
      const auto& list = std::get<SavedList>(value);
      append(to, static_cast<std::uint8_t>(Tag::List), 1);
      append(to, list.size(), 4);
      for (const auto& element : list) append_unit(to, element);
    }
  }
}

class Parser {
 public:
  explicit Parser(std::span<const std::uint8_t> data) : data_(data) {}

  Result<SavedUnit> unit(unsigned depth) {
    if (depth > kMaximumDepth) return fail("saved state is nested too deeply");
    auto version = number(4);
    auto field_count = number(4);
    if (!version || !field_count) return cut_short();
    SavedUnit unit(static_cast<std::uint32_t>(*version));
    for (std::uint64_t i = 0; i < *field_count; ++i) {
      if (auto ok = field(unit, depth); !ok) return std::unexpected(ok.error());
    }
    return unit;
  }

  bool at_end() const { return data_.empty(); }

 private:
  static std::unexpected<Error> cut_short() { return fail("saved state is cut short"); }

  Result<> field(SavedUnit& unit, unsigned depth) {
    auto name_size = number(1);
    auto name_bytes = name_size ? take(*name_size) : std::nullopt;
    auto tag = number(1);
    if (!name_bytes || !tag) return cut_short();
    const std::string name(name_bytes->begin(), name_bytes->end());
    if (unit.fields().contains(name)) return fail(fmt::format("saved state has the field '{}' twice", name));
    switch (static_cast<Tag>(*tag)) {
      case Tag::Number: {
        auto value = number(8);
        if (!value) return cut_short();
        unit.number(name, *value);
        return {};
      }
      case Tag::Bytes: {
        auto size = number(4);
        auto bytes = size ? take(*size) : std::nullopt;
        if (!bytes) return cut_short();
        unit.bytes(name, *bytes);
        return {};
      }
      case Tag::List: {
        auto count = number(4);
        if (!count) return cut_short();
        SavedList list;
        for (std::uint64_t i = 0; i < *count; ++i) {
          auto element = this->unit(depth + 1);
          if (!element) return std::unexpected(element.error());
          list.push_back(std::move(*element));
        }
        unit.list(name, std::move(list));
        return {};
      }
    }
    return fail(fmt::format("saved state has an unknown tag {} at the field '{}'", *tag, name));
  }

  std::optional<std::span<const std::uint8_t>> take(std::uint64_t size) {
    if (size > data_.size()) return std::nullopt;
    auto taken = data_.first(size);
    data_ = data_.subspan(size);
    return taken;
  }

  std::optional<std::uint64_t> number(unsigned size) {
    auto bytes = take(size);
    if (!bytes) return std::nullopt;
    std::uint64_t value = 0;
    for (unsigned i = 0; i < size; ++i) value |= std::uint64_t{(*bytes)[i]} << (8 * i);
    return value;
  }

  std::span<const std::uint8_t> data_;
};

}  // namespace

SavedUnit& SavedUnit::number(std::string_view name, std::uint64_t value) {
  assert(name.size() <= UINT8_MAX);
  fields_.emplace(name, value);
  return *this;
}

SavedUnit& SavedUnit::bytes(std::string_view name, std::span<const std::uint8_t> value) {
  assert(name.size() <= UINT8_MAX);
  fields_.emplace(name, SavedBytes(value.begin(), value.end()));
  return *this;
}

SavedUnit& SavedUnit::list(std::string_view name, SavedList value) {
  assert(name.size() <= UINT8_MAX);
  fields_.emplace(name, std::move(value));
  return *this;
}

SavedBytes SavedUnit::serialize() const {
  SavedBytes data;
  append_unit(data, *this);
  return data;
}

Result<SavedUnit> SavedUnit::parse(std::span<const std::uint8_t> data) {
  Parser parser(data);
  auto unit = parser.unit(0);
  if (unit && !parser.at_end()) return fail("saved state goes on after its end");
  return unit;
}

SavedReader::SavedReader(const SavedUnit& unit, std::string_view unit_name, std::uint32_t version)
    : unit_(unit), unit_name_(unit_name) {
  if (unit.version() != version) {
    complain(fmt::format("version {} where {} is known", unit.version(), version));
  }
}

template <typename T>
const T* SavedReader::find(std::string_view name) {
  read_.emplace(name, true);
  const auto field = unit_.fields().find(name);
  if (field == unit_.fields().end()) {
    complain(fmt::format("the field '{}' is missing", name));
    return nullptr;
  }
  const T* value = std::get_if<T>(&field->second);
  if (!value) complain(fmt::format("the field '{}' is of another kind", name));
  return value;
}

std::uint64_t SavedReader::number(std::string_view name, std::uint64_t maximum) {
  const auto* value = find<std::uint64_t>(name);
  if (!value) return 0;
  if (*value > maximum) {
    complain(fmt::format("the field '{}' is {}, at most {} can be", name, *value, maximum));
    return 0;
  }
  return *value;
}

SavedBytes SavedReader::bytes(std::string_view name, std::size_t size) {
  const auto* value = find<SavedBytes>(name);
  if (!value) return SavedBytes(size);
  if (value->size() != size) {
    complain(fmt::format("the field '{}' has {} bytes, not {}", name, value->size(), size));
    return SavedBytes(size);
  }
  return *value;
}

SavedBytes SavedReader::bytes_up_to(std::string_view name, std::size_t maximum) {
  const auto* value = find<SavedBytes>(name);
  if (!value) return {};
  if (value->size() > maximum) {
    complain(fmt::format("the field '{}' has {} bytes, at most {} can be", name, value->size(), maximum));
    return {};
  }
  return *value;
}

SavedList SavedReader::list(std::string_view name, std::size_t count) {
  const auto* value = find<SavedList>(name);
  if (!value) return {};
  if (value->size() != count) {
    complain(fmt::format("the field '{}' has {} elements, not {}", name, value->size(), count));
    return {};
  }
  return *value;
}

Result<> SavedReader::finish() const {
  if (!complaint_.empty()) return fail(complaint_);
  for (const auto& [name, value] : unit_.fields()) {
    if (!read_.contains(name)) return fail(fmt::format("saved state of {}: unknown field '{}'", unit_name_, name));
  }
  return {};
}

void SavedReader::complain(std::string message) {
  if (complaint_.empty()) complaint_ = fmt::format("saved state of {}: {}", unit_name_, message);
}

}  // namespace bulkhead::state
