// SPDX-License-Identifier: Apache-2.0
//
// An interrupt on its way to local APICs, and how an APIC tells whether it is meant. Senders read the addresses of other
// processors' APICs while those run, so an address is one word that is read at once.
// Intel SDM volume 3, "Issuing Interprocessor Interrupts" and "Determining IPI Destination".
#pragma once

#include <cstdint>

namespace bulkhead::hypervisor {

enum class DeliveryMode : std::uint8_t {
  Fixed = 0,
  LowestPriority = 1,
  Smi = 2,
  Nmi = 4,
  Init = 5,
  StartUp = 6,
  ExtInt = 7
};

enum class Destination : std::uint8_t { Physical, Logical, All, AllButSender };

struct InterruptRequest {
  DeliveryMode mode = DeliveryMode::Fixed;
  std::uint8_t vector = 0;
  bool level = false;  // trigger mode
  Destination kind = Destination::Physical;
  /// APIC id or logical address: 8 bits (FF: all) if `wide` is false, else 32 (FFFFFFFF: all).
  std::uint32_t destination = 0;
  bool wide = false;
};

/// Where an APIC can be reached.
struct ApicAddress {
  std::uint32_t id = 0;
  bool enabled = true;     // by IA32_APIC_BASE
  bool accepting = false;  // software-enabled: takes fixed and lowest-priority interrupts
  bool x2apic = false;
  bool cluster_model = false;   // DFR, in xAPIC mode
  std::uint8_t logical_id = 0;  // LDR, in xAPIC mode

  static constexpr ApicAddress unpack(std::uint64_t word) {
    return {.id = static_cast<std::uint32_t>(word),
            .enabled = (word >> 40 & 1) != 0,
            .accepting = (word >> 41 & 1) != 0,
            .x2apic = (word >> 42 & 1) != 0,
            .cluster_model = (word >> 43 & 1) != 0,
            .logical_id = static_cast<std::uint8_t>(word >> 32)};
  }
  constexpr std::uint64_t pack() const {
    return id | std::uint64_t{logical_id} << 32 | std::uint64_t{enabled} << 40 | std::uint64_t{accepting} << 41 |
           std::uint64_t{x2apic} << 42 | std::uint64_t{cluster_model} << 43;
  }

  /// Whether a request of another processor, or of a device, is for this APIC.
  constexpr bool matches(const InterruptRequest& request) const {
    if (!enabled) return false;
    if (request.kind == Destination::All || request.kind == Destination::AllButSender) return true;
    if (request.destination == (request.wide ? 0xffffffffu : 0xffu)) return true;
    return request.kind == Destination::Logical ? matches_logical(request.destination) : id == request.destination;
  }

 private:
  constexpr bool matches_logical(std::uint32_t destination) const {
    if (x2apic) {
      // The logical address is derived: cluster in the high half, one bit of 16 in the low one.
      return destination >> 16 == id >> 4 && (destination & (1u << (id & 15)));
    }
    if (!cluster_model) return (logical_id & destination) != 0;
    return (logical_id & 0xf0) == (destination & 0xf0) && (logical_id & destination & 0xf);
  }
};

}  // namespace bulkhead::hypervisor
