// SPDX-License-Identifier: Apache-2.0
//
// What the hypervisor keeps for each logical processor. It lies at the bottom of the processor's stack, so that the stack
// pointer finds it and no segment register is needed (GS stays the guest's while the hypervisor works):
//
//   8 KiB aligned  | LogicalProcessor | the root's VpHardware |      ...  ◀── stack |
//
// Signals (processor/signals.hpp). Host code runs with the global interrupt flag clear, so their NMI is seen as the guest's exit, or by
// `wait` of a processor that has no guest to run. Before a processor enters the root it looks at the bits too: so that it depends on
// no NMI for what it must know then, and one that got lost cannot keep others from being sent.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "hypervisor/memory/frame.hpp"
#include "hypervisor/processor/signals.hpp"
#include "hypervisor/root/startup.hpp"

namespace bulkhead::hypervisor {

class VpHardware;

struct LogicalProcessor {
  static constexpr std::uintptr_t kStackSize = 8192;

  std::uint32_t index = 0;
  std::uint32_t apic_id = 0;
  Signals signals;
  root::StartupState startup;

  /// The root runs here, or is about to and has looked at `root_flush` already.
  std::atomic<bool> in_root{false};
  /// The root's second-level translations are to be forgotten before it runs again.
  std::atomic<bool> root_flush{false};

  /// LDR and DFR, for who looks up a logical destination of the root's.
  std::uint32_t logical_destination = 0;
  std::uint32_t destination_format = 0xffffffff;

  /// An NMI for the root that it has not got yet.
  bool root_nmi = false;

  /// It has come up, and waits for the root's SIPI.
  std::atomic<bool> ready{false};

  VpHardware* root = nullptr;
  Frame root_frames;              // two, for what of the root's VpHardware needs a frame
  std::uint64_t root_vmcb = 0;    // physical
  VpHardware* running = nullptr;  // for panic messages
  std::uint64_t host_save_area = 0;

  /// Address space identifiers: 0 is the hypervisor's, 1 the root's, the others are given to children in turn. When they are used
  /// up a new generation begins. `address_space` names processor (low bits) and generation: no two are the same, none is 0.
  static constexpr std::uint64_t kAddressSpaceGeneration = 256;
  std::uint32_t next_asid = 2;
  std::uint64_t address_space = kAddressSpaceGeneration;

  static LogicalProcessor& current() {
    std::uintptr_t stack;
    asm("mov %%rsp, %0" : "=r"(stack));
    return *reinterpret_cast<LogicalProcessor*>(stack & ~(kStackSize - 1));
  }
  /// Room for the root's VpHardware.
  static constexpr std::size_t kRootHardwareOffset = 256, kRootHardwareSize = 768;
  void* root_hardware() { return reinterpret_cast<std::byte*>(this) + kRootHardwareOffset; }
  void* stack_top() { return reinterpret_cast<std::byte*>(this) + kStackSize; }
};

static_assert(sizeof(LogicalProcessor) <= LogicalProcessor::kRootHardwareOffset);

namespace processors {

inline constexpr std::uint32_t kMaximum = 64;
extern LogicalProcessor* all[kMaximum];
extern std::uint32_t count;

/// Sets bits and sends an NMI if none is on its way. Not for the processor itself.
void signal(LogicalProcessor& processor, std::uint32_t bits);

/// After an NMI exit: takes the NMI, and the signals. Whose NMI it was is in the result.
Signals::Taken take_nmi(LogicalProcessor& processor);

/// Takes the signals that are there, without an NMI. Those that are for the root are noted in `processor`.
void take_signals(LogicalProcessor& processor);

/// Sleeps until a signal comes, unless one is there already.
void wait(LogicalProcessor& processor);

/// Prepares this processor for C++: descriptor tables, control registers.
void initialize_current();

}  // namespace processors
}  // namespace bulkhead::hypervisor
