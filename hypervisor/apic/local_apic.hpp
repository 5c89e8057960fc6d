// SPDX-License-Identifier: Apache-2.0
//
// The local APIC of one virtual processor: Intel SDM volume 3, "Advanced Programmable Interrupt Controller (APIC)".
//
//   devices, other VPs ──accept──▶ IRR ──take──▶ processor ──▶ ISR ──EOI──▶ (level-triggered: told to the parent)
//                                   ▲
//       timer, errors ──────────────┘   the highest IRR vector is taken when its class is above the processor priority
//
// Only the logical processor that runs the VP touches the object: others leave their requests in the VP's mailbox. It
// knows nothing of other processors either: what it sends is handed back to the caller as an InterruptRequest.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "abi/hypercall.h"
#include "hypervisor/apic/apic_timer.hpp"
#include "hypervisor/apic/interrupt_request.hpp"

namespace bulkhead::hypervisor {

inline constexpr std::uint64_t kApicBaseAddress = 0xfee00000;

class LocalApic {
 public:
  /// Register numbers: offset in the page / 16, and MSR - 0x800.
  enum class Register : std::uint8_t {
    Id = 0x02,
    Version = 0x03,
    TaskPriority = 0x08,
    ArbitrationPriority = 0x09,
    ProcessorPriority = 0x0a,
    EndOfInterrupt = 0x0b,
    RemoteRead = 0x0c,
    LogicalDestination = 0x0d,
    DestinationFormat = 0x0e,
    SpuriousVector = 0x0f,
    InService = 0x10,
    TriggerMode = 0x18,
    InterruptRequest = 0x20,
    ErrorStatus = 0x28,
    LvtCmci = 0x2f,
    CommandLow = 0x30,
    CommandHigh = 0x31,
    LvtTimer = 0x32,
    LvtThermal = 0x33,
    LvtPerformance = 0x34,
    LvtLint0 = 0x35,
    LvtLint1 = 0x36,
    LvtError = 0x37,
    TimerInitialCount = 0x38,
    TimerCurrentCount = 0x39,
    TimerDivide = 0x3e,
    SelfIpi = 0x3f,
  };

  /// What a write asks the caller to do.
  struct Outcome {
    bool fault = false;  // #GP: nothing was written
    std::optional<hypervisor::InterruptRequest> send = {};
    std::optional<std::uint8_t> level_eoi = {};  // a level-triggered interrupt with this vector ended
  };

  /// Power-up. `offers_x2apic`: the partition may switch to x2APIC mode.
  void reset(std::uint32_t id, bool bootstrap, bool offers_x2apic, std::uint64_t minimum_timer_period);
  /// INIT: everything but the id and IA32_APIC_BASE.
  void init();

  // As the guest sees it. `now` is the root's time stamp counter.
  std::uint64_t base() const { return base_; }
  Outcome set_base(std::uint64_t value);
  bool is_xapic() const { return (base_ & kModeBits) == kEnabled; }
  bool is_x2apic() const { return (base_ & kModeBits) == kModeBits; }

  /// xAPIC mode, 32 bits at `offset` into the page.
  std::uint32_t read(std::uint32_t offset, std::uint64_t now);
  Outcome write(std::uint32_t offset, std::uint32_t value, std::uint64_t now);
  /// x2APIC mode, MSR 0x800 + `index`. Nothing: #GP.
  std::optional<std::uint64_t> read_x2(std::uint32_t index, std::uint64_t now) const;
  Outcome write_x2(std::uint32_t index, std::uint64_t value, std::uint64_t now);

  /// The command register of either mode, as the TLFS's MSR has it.
  std::uint64_t command() const { return std::uint64_t{command_high_} << 32 | command_low_; }
  Outcome set_command(std::uint64_t value);

  std::uint8_t task_priority() const { return task_priority_; }
  void set_task_priority(std::uint8_t value) { task_priority_ = value; }

  // As the processor sees it.

  /// A fixed interrupt arrives.
  void accept(std::uint8_t vector, bool level);
  /// The vector that would be taken now, if interrupts are enabled.
  std::optional<std::uint8_t> deliverable() const;
  /// The vector that waits for nothing but the processor (its task priority, or its taking interrupts at all).
  std::optional<std::uint8_t> waiting() const;
  /// The processor takes `vector`, which deliverable() gave.
  void take(std::uint8_t vector);
  /// What was just taken, and is edge-triggered, needs no EOI.
  void end_automatically() { (void)end_of_interrupt(); }
  /// Whether the end of `vector`, in service, leads to nothing: no other interrupt, no word to the parent.
  bool ends_quietly(std::uint8_t vector) const { return !contains(level_, vector) && !highest(requested_); }
  bool has_requests() const { return highest(requested_).has_value(); }
  /// Whether an interrupt from the PIC reaches the processor: LINT0 is ExtINT and not masked, or the APIC is off.
  bool accepts_external() const;

  ApicTimer& timer() { return timer_; }
  const ApicTimer& timer() const { return timer_; }
  /// All of it but IA32_APIC_BASE, the task priority and the TSC deadline, which are registers with names.
  void save(hv_local_interrupt_controller_state& state, std::uint64_t now) const;
  /// False, and nothing was changed: no APIC with this id and base can be in that state.
  bool restore(const hv_local_interrupt_controller_state& state, std::uint64_t now);

  /// The timer's deadline has come.
  void fire_timer(std::uint64_t now);

  /// How other processors reach it. Changes only in set_base, write, write_x2, restore, reset and init.
  ApicAddress address() const;

 private:
  using VectorSet = std::array<std::uint64_t, 4>;
  static constexpr std::uint64_t kBootstrap = 1 << 8;
  static constexpr std::uint64_t kX2Apic = 1 << 10;
  static constexpr std::uint64_t kEnabled = 1 << 11;
  static constexpr std::uint64_t kModeBits = kEnabled | kX2Apic;
  static constexpr std::uint32_t kMasked = 1 << 16;
  static constexpr std::uint32_t kSoftwareEnabled = 1 << 8;
  static constexpr unsigned kLvtCount = 6;  // from LvtTimer on

  static std::optional<std::uint8_t> highest(const VectorSet& set);
  static bool contains(const VectorSet& set, std::uint8_t vector) { return set[vector / 64] >> (vector % 64) & 1; }
  static std::uint32_t part(const VectorSet& set, unsigned index) {
    return static_cast<std::uint32_t>(set[index / 2] >> (index % 2 * 32));
  }

  std::optional<std::uint32_t> read_register(unsigned index, std::uint64_t now) const;
  void write_lvt(unsigned index, std::uint32_t value);
  void write_spurious_vector(std::uint32_t value);
  Outcome write_command(std::uint32_t low, std::uint32_t destination);
  Outcome end_of_interrupt();
  void raise_error(std::uint32_t bits);
  std::uint8_t processor_priority() const;
  std::uint32_t logical_destination() const;
  static ApicTimerMode timer_mode(std::uint32_t lvt) {
    const unsigned mode = lvt >> 17 & 3;
    return mode == 3 ? ApicTimerMode::OneShot : static_cast<ApicTimerMode>(mode);
  }

  std::uint64_t base_ = 0;
  std::uint32_t id_ = 0;
  bool offers_x2apic_ = false;
  std::uint8_t task_priority_ = 0;
  std::uint32_t logical_destination_ = 0;
  std::uint32_t destination_format_ = 0;
  std::uint32_t spurious_vector_ = 0;
  std::uint32_t error_status_ = 0;
  std::uint32_t pending_errors_ = 0;
  std::uint32_t command_low_ = 0;
  std::uint32_t command_high_ = 0;  // as written in the mode that is on
  std::array<std::uint32_t, kLvtCount> lvt_{};
  VectorSet requested_{};
  VectorSet in_service_{};
  VectorSet level_{};
  ApicTimer timer_;
};

}  // namespace bulkhead::hypervisor
