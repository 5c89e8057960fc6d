// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/root/msr_policy.hpp"

#include <algorithm>
#include <optional>

namespace bulkhead::hypervisor::root {
namespace {

constexpr std::uint32_t kRegistersPerVector = 8192;

/// Number of the register's first bit in the map.
std::optional<std::size_t> bit_of(std::uint32_t index) {
  constexpr std::uint32_t kVectorStarts[] = {0x00000000, 0xc0000000, 0xc0010000};
  std::size_t vector = 0;
  for (const std::uint32_t start : kVectorStarts) {
    if (index - start < kRegistersPerVector) return (vector * kRegistersPerVector + (index - start)) * 2;
    ++vector;
  }
  return std::nullopt;
}

void set(std::span<std::uint8_t, kMsrMapSize> map, std::size_t bit, bool value) {
  const auto mask = static_cast<std::uint8_t>(1u << (bit % 8));
  map[bit / 8] = static_cast<std::uint8_t>(value ? map[bit / 8] | mask : map[bit / 8] & ~mask);
}

}  // namespace

void build_root_msr_map(std::span<std::uint8_t, kMsrMapSize> map) {
  std::ranges::fill(map, std::uint8_t{0});
  for (const MsrRule& rule : kMsrRules) {
    for (std::uint32_t index = rule.first; index <= rule.last; ++index) {
      const std::optional<std::size_t> bit = bit_of(index);
      if (!bit) continue;
      set(map, *bit, rule.read != MsrAccess::Native);
      set(map, *bit + 1, rule.write != MsrAccess::Native);
    }
  }
}

void build_child_msr_map(std::span<std::uint8_t, kMsrMapSize> map) {
  std::ranges::fill(map, std::uint8_t{0xff});
  for (const std::uint32_t index : kChildNativeMsrs) {
    const std::size_t bit = *bit_of(index);
    set(map, bit, false);
    set(map, bit + 1, false);
  }
}

}  // namespace bulkhead::hypervisor::root
