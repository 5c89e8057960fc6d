// SPDX-License-Identifier: Apache-2.0
//
// An interrupt on its way to local APICs, children's or the root's, and how an APIC tells whether it is meant. Senders read the
// addresses of other processors' APICs while those run, so an address is one word that is read at once.
// Intel SDM volume 3, "Issuing Interprocessor Interrupts" and "Determining IPI Destination"; AMD64 APM volume 2, section 16.5.
#pragma once

#include <cstdint>

namespace bulkhead::hypervisor {

/// As the command register numbers them.
enum class DeliveryMode : std::uint8_t { Fixed, LowestPriority, Smi, Reserved, Nmi, Init, StartUp, ExtInt };

/// The command register's shorthands by their numbers; where it has none, a physical or a logical address.
enum class Destination : std::uint8_t { Physical, Self, All, AllButSender, Logical };

struct InterruptRequest {
  DeliveryMode mode = DeliveryMode::Fixed;
  std::uint8_t vector = 0;
  bool level = false;  // trigger mode
  Destination kind = Destination::Physical;
  /// APIC id or logical address: 8 bits (FF: all) if `wide` is false, else 32 (FFFFFFFF: all).
  std::uint32_t destination = 0;
  bool wide = false;

  /// What is asked for by writing `low` to the command register. Its trigger mode matters only for INIT.
  static constexpr InterruptRequest from_command(std::uint32_t low, std::uint32_t destination, bool wide) {
    const auto shorthand = static_cast<Destination>(low >> 18 & 3);
    const bool logical = shorthand == Destination::Physical && (low & 1 << 11);
    return {.mode = static_cast<DeliveryMode>(low >> 8 & 7),
            .vector = static_cast<std::uint8_t>(low),
            .kind = logical ? Destination::Logical : shorthand,
            .destination = destination,
            .wide = wide};
  }
};

/// Whether the command is an INIT that takes an earlier one back (level-triggered, not asserted), which today's processors ignore.
constexpr bool is_init_deassert(std::uint32_t low) { return (low & 0xc700) == 0x8500; }

/// Where an APIC can be reached.
struct ApicAddress {
  std::uint32_t id = 0;
  bool enabled = true;     // by IA32_APIC_BASE
  bool accepting = false;  // software-enabled: takes fixed and lowest-priority interrupts
  bool x2apic = false;
  bool cluster_model = false;   // DFR, in xAPIC mode
  std::uint8_t logical_id = 0;  // LDR, in xAPIC mode

  /// No APIC has this id.
  static constexpr std::uint32_t kNobody = 0xffffffff;

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

  /// Whether a request is for this APIC. `sender`: the id of the APIC that it comes from. A broadcast without a shorthand includes it.
  constexpr bool matches(const InterruptRequest& request, std::uint32_t sender = kNobody) const {
    if (!enabled) return false;
    if (request.kind == Destination::Self) return id == sender;
    if (request.kind == Destination::AllButSender) return id != sender;
    if (request.kind == Destination::All) return true;
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
