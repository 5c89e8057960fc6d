// SPDX-License-Identifier: Apache-2.0
#include "engine/saved_registers.hpp"

#include <fmt/format.h>

#include <cstring>
#include <utility>
#include <vector>

namespace bulkhead::engine {
namespace {

constexpr std::size_t kNameSize = sizeof(std::uint32_t);
constexpr std::size_t kEntrySize = kNameSize + sizeof(abi::RegisterValue);

}  // namespace

std::vector<RegisterAssignment> assignments_for(std::span<const abi::RegisterName> names) {
  std::vector<RegisterAssignment> assignments;
  assignments.reserve(names.size());
  for (const auto name : names) assignments.push_back({.name = name, .value = {}});
  return assignments;
}

void save_registers(state::SavedUnit& unit, std::string_view name, std::span<const RegisterAssignment> registers) {
  std::vector<std::uint8_t> bytes(registers.size() * kEntrySize);
  std::uint8_t* place = bytes.data();
  for (const auto& assignment : registers) {
    const std::uint32_t number = std::to_underlying(assignment.name);
    std::memcpy(place, &number, kNameSize);
    std::memcpy(place + kNameSize, &assignment.value, sizeof assignment.value);
    place += kEntrySize;
  }
  unit.bytes(name, bytes);
}

Result<> read_saved_registers(std::span<const std::uint8_t> saved, std::span<RegisterAssignment> registers) {
  if (saved.size() != registers.size() * kEntrySize) {
    return fail(fmt::format("the saved registers are {} bytes, not {}", saved.size(), registers.size() * kEntrySize));
  }
  for (auto& assignment : registers) {
    std::uint32_t number = 0;
    std::memcpy(&number, saved.data(), kNameSize);
    if (number != std::to_underlying(assignment.name)) {
      return fail(fmt::format("the saved registers have {:#x} in the place of {:#x}", number,
                              std::to_underlying(assignment.name)));
    }
    std::memcpy(&assignment.value, saved.data() + kNameSize, sizeof assignment.value);
    saved = saved.subspan(kEntrySize);
  }
  return {};
}

}  // namespace bulkhead::engine
