// SPDX-License-Identifier: Apache-2.0
//
// A machine for the engine conformance tests: a partition with 4 MiB of memory, the tiny guests of guests.S in it, and
// devices that write down what the guest did.
//
//   0x01000 GDT    0x02000 page tables, 4 GiB mapped one to one with 2 MiB pages    0x08000 IDT
//   0x09000 code of the second processor    0x10000 code    0x20000 stack    0x100000 data    0x400000 end of memory
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.hpp"

namespace bulkhead::engine {

#define BULKHEAD_GUEST(name)                                                            \
  extern "C" const std::uint8_t guest_##name[];                                         \
  extern "C" const std::uint8_t guest_##name##_end[];                                   \
  inline std::span<const std::uint8_t> name##_guest() {                                 \
    return {guest_##name, static_cast<std::size_t>(guest_##name##_end - guest_##name)}; \
  }
namespace guests {
BULKHEAD_GUEST(port_write)
BULKHEAD_GUEST(port_read)
BULKHEAD_GUEST(port_string)
BULKHEAD_GUEST(loop)
BULKHEAD_GUEST(halt)
BULKHEAD_GUEST(mmio_read)
BULKHEAD_GUEST(mmio_write)
BULKHEAD_GUEST(mmio_modify)
BULKHEAD_GUEST(mmio_string)
BULKHEAD_GUEST(mmio_straddle)
BULKHEAD_GUEST(vector_move)
BULKHEAD_GUEST(triple_fault)
BULKHEAD_GUEST(interrupts)
BULKHEAD_GUEST(window)
BULKHEAD_GUEST(timer)
BULKHEAD_GUEST(start_second)
BULKHEAD_GUEST(second)
BULKHEAD_GUEST(hypervisor_leaves)
BULKHEAD_GUEST(reference_tsc)
BULKHEAD_GUEST(hypercall)
BULKHEAD_GUEST(synic)
BULKHEAD_GUEST(synic_calls)
BULKHEAD_GUEST(single_step)
BULKHEAD_GUEST(page_writer)
BULKHEAD_GUEST(memory_regions)
BULKHEAD_GUEST(survivor)
BULKHEAD_GUEST(traveller)
BULKHEAD_GUEST(page_rounds)
BULKHEAD_GUEST(message_taker)
}  // namespace guests

inline constexpr std::uint64_t kCode = 0x10000, kStack = 0x20000, kData = 0x100000, kMemorySize = 0x400000;
inline constexpr std::uint64_t kSecondCode = 0x9000;
inline constexpr std::uint16_t kDonePort = 0xf4;

class GuestMachine {
 public:
  static Result<std::unique_ptr<GuestMachine>> create(Engine& engine, const PartitionSettings& settings = {},
                                                      std::span<const GuestMemory::Range> more_memory = {});

  GuestMemory& memory() { return *memory_; }
  Partition& partition() { return *partition_; }
  VirtualProcessor& vp(std::uint32_t index = 0) { return *vps_[index]; }

  void write(GuestPhysicalAddress address, std::span<const std::uint8_t> bytes);
  template <typename T>
  T read(GuestPhysicalAddress address) const {
    T value{};
    EXPECT_TRUE(memory_->read(address, std::span(reinterpret_cast<std::uint8_t*>(&value), sizeof(value))));
    return value;
  }
  template <typename T>
  void put(GuestPhysicalAddress address, T value) {
    write(address, std::span(reinterpret_cast<const std::uint8_t*>(&value), sizeof(value)));
  }

  /// Puts the code at kCode and processor 0 at its start.
  void start_real_mode(std::span<const std::uint8_t> code);
  void start_long_mode(std::span<const std::uint8_t> code);
  /// An interrupt gate of the 64-bit IDT.
  void set_gate(std::uint8_t vector, std::uint64_t handler);

  /// Runs processor 0 until an exit that is not a port or MMIO access, or until a write of kDonePort. Accesses go to
  /// the lists below; `on_port_write` is called after each port write. Gives up after 20 seconds.
  Result<Exit> run();
  /// Runs until the guest is done, and expects just that.
  void run_to_the_end();

  std::vector<PortExit> port_writes;
  std::deque<std::uint64_t> port_reads;  // what the guest is to read
  std::vector<MmioExit> mmio;
  std::function<std::uint64_t(const MmioExit&)> mmio_read = [](const MmioExit&) { return 0; };
  std::function<void(const PortExit&)> on_port_write = [](const PortExit&) {};

  /// What the partition and its processors save, while time stands still. It goes on afterwards.
  struct Saved {
    state::SavedUnit partition;
    std::vector<state::SavedUnit> vps;
    bool operator==(const Saved&) const = default;
  };
  Result<Saved> save();
  /// A new machine of the same engine with this one's memory and saved state, whose guest goes on where this one's is.
  /// The saved state went through its byte form. Null, and a failed test, if something of it fails.
  std::unique_ptr<GuestMachine> move(Engine& engine);

  /// The data of the writes to port 0x10.
  std::vector<std::uint32_t> words() const;

 private:
  GuestMachine() = default;
  Result<Saved> save_frozen();
  Result<> restore(const Saved& saved);
  bool serve(const Exit& exit);

  PartitionSettings settings_;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<Partition> partition_;
  std::vector<std::unique_ptr<VirtualProcessor>> vps_;
};

RegisterAssignment number_assignment(abi::RegisterName name, std::uint64_t value);
std::uint64_t register_number(VirtualProcessor& vp, abi::RegisterName name);

}  // namespace bulkhead::engine
