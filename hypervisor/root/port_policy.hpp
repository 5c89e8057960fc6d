// SPDX-License-Identifier: Apache-2.0
//
// Ports are the root's, but for the one that puts the machine to sleep: suspend to RAM would end the hypervisor and wake the root
// without it.
#pragma once

#include <cstdint>
#include <span>

namespace bulkhead::hypervisor::root {

/// ACPI's PM1 control registers, and the sleep type of S3 for each.
struct SleepControl {
  std::uint16_t port[2] = {};        // a and b; 0: none
  std::uint8_t sleep3_type[2] = {};  // SLP_TYPa, SLP_TYPb of _S3_
  bool has_sleep3 = false;

  /// Which register `port` belongs to, or -1.
  constexpr int register_of(std::uint16_t number) const {
    for (int index = 0; index < 2; ++index) {
      if (port[index] && (number == port[index] || number == port[index] + 1)) return index;
    }
    return -1;
  }

  /// Would this write start suspend to RAM? ACPI specification, "PM1 Control Registers": SLP_TYP 10-12, SLP_EN 13.
  constexpr bool starts_sleep3(std::uint16_t number, std::uint32_t value, unsigned size, std::uint16_t present) const {
    const int index = register_of(number);
    if (index < 0 || !has_sleep3) return false;
    std::uint32_t result = present;
    if (number == port[index] + 1) {
      result = (present & 0xffu) | ((value & 0xff) << 8);
    } else {
      result = size == 1 ? (present & 0xff00u) | (value & 0xff) : value & 0xffff;
    }
    return (result & (1u << 13)) && ((result >> 10) & 7) == sleep3_type[index];
  }
};

/// SVM's map (APM volume 2, section 15.10): a bit for each port. `map` may be shorter; ports behind its end are left out.
constexpr void build_root_port_map(std::span<std::uint8_t> map, const SleepControl& sleep) {
  for (const std::uint16_t port : sleep.port) {
    if (port == 0 || !sleep.has_sleep3) continue;
    for (unsigned byte = port; byte < port + 2u && byte / 8 < map.size(); ++byte)
      map[byte / 8] = static_cast<std::uint8_t>(map[byte / 8] | 1u << (byte % 8));
  }
}

}  // namespace bulkhead::hypervisor::root
