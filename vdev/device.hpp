// SPDX-License-Identifier: Apache-2.0
//
// What an emulated device sees of its machine, and what the machine sees of a device.
//
//   virtual processor ── port or MMIO exit ──▶ motherboard ──▶ PortDevice / MmioDevice
//                                                  ▲                │
//   interrupt controller ◀── InterruptLine ────────┼────────────────┤
//   reset, power off     ◀── MachineControl ───────┘                │
//   clock, timers        ◀── Clock, Timer ──────────────────────────┘
//
// All calls into the devices of one machine, timers' among them, come one at a time: the motherboard holds the
// machine's lock. A device neither locks nor waits. Nothing that a guest writes may crash it or make it grow.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "abi/interrupt_message.hpp"
#include "state/clock.hpp"
#include "state/state_unit.hpp"

namespace bulkhead::vdev {

/// An inclusive range of I/O ports.
struct PortRange {
  std::uint16_t first;
  std::uint16_t last;
};

/// A device with I/O ports. `size` is 1, 2 or 4 bytes. Undefined reads return all ones in their size.
class PortDevice {
 public:
  virtual ~PortDevice() = default;
  virtual std::span<const PortRange> ports() const = 0;
  virtual std::uint32_t read_port(std::uint16_t port, unsigned size) = 0;
  virtual void write_port(std::uint16_t port, unsigned size, std::uint32_t value) = 0;
};

/// A range of guest physical addresses of `size` bytes.
struct MmioRange {
  std::uint64_t base;
  std::uint64_t size;
};

/// A device with registers in memory. `offset` counts from the range's base; `size` is 1, 2, 4 or 8 bytes.
class MmioDevice {
 public:
  virtual ~MmioDevice() = default;
  virtual std::span<const MmioRange> mmio_ranges() const = 0;
  virtual std::uint64_t read_mmio(std::size_t range, std::uint64_t offset, unsigned size) = 0;
  virtual void write_mmio(std::size_t range, std::uint64_t offset, unsigned size, std::uint64_t value) = 0;
};

/// One input of an interrupt controller. An edge-triggered input takes the change from low to high.
class InterruptLine {
 public:
  virtual ~InterruptLine() = default;
  virtual void set_level(bool high) = 0;
  void pulse() {
    set_level(true);
    set_level(false);
  }
};

using abi::InterruptMessage;

/// Where an interrupt controller of the machine (the IOAPIC) sends its interrupts.
class InterruptMessageSink {
 public:
  virtual ~InterruptMessageSink() = default;
  virtual void send(InterruptMessage message) = 0;
};

using state::Clock;
using state::Nanoseconds;
using state::Timer;
using state::WallClock;

/// What a device can ask of the whole machine.
class MachineControl {
 public:
  virtual ~MachineControl() = default;
  /// `why` names the means, e.g. "keyboard controller", for the log.
  virtual void request_reset(std::string_view why) = 0;
  virtual void request_power_off(std::string_view why) = 0;
  /// The guest ended itself through the isa-debug-exit port with this value.
  virtual void request_exit(std::uint32_t value) = 0;
  /// The guest's kernel has panicked and says so. It may go on for a while.
  virtual void report_panic(std::string_view how) = 0;
};

}  // namespace bulkhead::vdev
