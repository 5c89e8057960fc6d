// SPDX-License-Identifier: Apache-2.0
//
// The interrupt command register: AMD64 APM volume 2, section 16.5.
#pragma once

#include <cstdint>

namespace bulkhead::hypervisor::root {

enum class DeliveryMode : std::uint8_t { Fixed, LowestPriority, Smi, RemoteRead, Nmi, Init, Startup, External };
enum class Shorthand : std::uint8_t { None, Self, AllIncludingSelf, AllExcludingSelf };

struct InterruptCommand {
  std::uint32_t low;
  std::uint32_t destination;  // 8 bits in xAPIC mode, 32 in x2APIC mode
  bool x2apic;

  constexpr std::uint8_t vector() const { return static_cast<std::uint8_t>(low); }
  constexpr DeliveryMode mode() const { return static_cast<DeliveryMode>((low >> 8) & 7); }
  constexpr bool logical() const { return low & (1u << 11); }
  constexpr Shorthand shorthand() const { return static_cast<Shorthand>((low >> 18) & 3); }
  /// An INIT that takes an earlier one back, which today's processors ignore.
  constexpr bool is_init_deassert() const {
    return mode() == DeliveryMode::Init && (low & (1u << 15)) && !(low & (1u << 14));
  }
  /// INIT, startup and NMI concern the hypervisor; everything else goes to the hardware as it is.
  constexpr bool is_for_hardware() const {
    return mode() != DeliveryMode::Nmi && mode() != DeliveryMode::Init && mode() != DeliveryMode::Startup;
  }
};

/// How a local APIC can be addressed.
struct ApicAddress {
  std::uint32_t id;
  std::uint32_t logical_destination;  // LDR, as it is in the register
  std::uint32_t destination_format;   // DFR
};

/// Does the command, sent by `sender`, go to `target`? Broadcasts without a shorthand include the sender.
constexpr bool addresses(const InterruptCommand& command, const ApicAddress& target, std::uint32_t sender) {
  switch (command.shorthand()) {
    case Shorthand::Self: return target.id == sender;
    case Shorthand::AllIncludingSelf: return true;
    case Shorthand::AllExcludingSelf: return target.id != sender;
    case Shorthand::None: break;
  }
  if (command.destination == (command.x2apic ? 0xffffffffu : 0xffu)) return true;
  if (!command.logical()) return command.destination == target.id;
  if (command.x2apic) {
    const std::uint32_t cluster = target.id >> 4;
    return command.destination >> 16 == cluster && (command.destination & (1u << (target.id & 15)));
  }
  const std::uint32_t logical_id = target.logical_destination >> 24;
  const bool flat = target.destination_format >> 28 == 0xf;
  if (flat) return (command.destination & logical_id) != 0;
  return command.destination >> 4 == logical_id >> 4 && (command.destination & logical_id & 15);
}

}  // namespace bulkhead::hypervisor::root
