// SPDX-License-Identifier: Apache-2.0
//
// An engine without a guest, for tests of everything above the engine: a test says which exits each processor makes,
// and looks at what the code under test did with them.
//
//   auto guest = std::make_shared<FakeGuest>();
//   guest->vp(0).exit(PortExit{.port = 0x3f8, .size = 1, .write = true, .data = 'a'});
//   FakeEngine engine(guest);             // goes to the code under test; `guest` stays with the test
//
// Its saved state is the processors' registers. A processor whose exits are used up is halted: `run` waits for another exit, or for a cancellation.
// All of it may be used from any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/engine.hpp"

namespace bulkhead::engine {

/// One scripted processor.
class FakeProcessor {
 public:
  /// Appends an exit for `run` to return.
  void exit(Exit next);
  /// Appends an error of the engine itself.
  void fail(std::string why);

  /// The values given to complete_read, in their order.
  std::vector<std::uint64_t> completed_reads() const;
  /// The vectors given to inject_external_interrupt, in their order.
  std::vector<std::uint8_t> external_interrupts() const;
  /// What was last set, or nothing.
  std::optional<abi::RegisterValue> get(abi::RegisterName name) const;
  /// Gives a register a value for get_registers to return; those that never got one read as zero.
  void set(abi::RegisterName name, abi::RegisterValue value);
  /// All that were ever set.
  std::vector<RegisterAssignment> registers() const;
  /// Whether an interrupt window is asked for. The window opens only when `open_interrupt_window` says so.
  bool window_wanted() const;
  /// From now on the processor can take interrupts (`true`, as at first) or cannot.
  void open_interrupt_window(bool open);
  /// Waits until `run` was called and has no exit left to return; false after ten seconds.
  bool wait_until_halted() const;

 private:
  friend class FakeVirtualProcessor;

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::deque<Result<Exit>> exits_;
  std::vector<std::uint64_t> completed_reads_;
  std::vector<std::uint8_t> external_interrupts_;
  std::map<abi::RegisterName, abi::RegisterValue> registers_;
  bool cancelled_ = false;
  bool halted_ = false;
  bool window_wanted_ = false;
  bool window_open_ = true;
};

/// What the test and the engine share.
class FakeGuest {
 public:
  FakeProcessor& vp(std::uint32_t index);

  std::vector<abi::InterruptMessage> interrupts() const;
  std::vector<abi::InterruptMessage> level_messages() const;
  /// The memory that was mapped, or null.
  GuestMemory* memory() const;
  /// The settings of the last partition that was created.
  PartitionSettings settings() const;
  /// The guest writes the page at this address, so that the next harvest has it.
  void write_page(GuestPhysicalAddress address);
  bool time_is_frozen() const;
  /// Whether the page at this address is the guest's: it was there at the start or given, and not taken since.
  bool has_page(GuestPhysicalAddress address) const;
  /// From now on the host has no memory to give.
  void let_host_run_out() { host_is_empty_ = true; }

 private:
  friend class FakeEngine;
  friend class FakePartition;
  friend class FakeVirtualProcessor;

  mutable std::mutex mutex_;
  std::map<std::uint32_t, FakeProcessor> processors_;
  std::vector<abi::InterruptMessage> interrupts_;
  std::vector<abi::InterruptMessage> level_messages_;
  GuestMemory* memory_ = nullptr;
  PartitionSettings settings_;
  std::optional<DirtyPages> dirty_pages_;                       // while they are tracked
  std::vector<std::pair<GuestPhysicalAddress, bool>> changes_;  // pages that were given (true) or taken, in order
  std::atomic<bool> host_is_empty_ = false;
  bool frozen_ = false;
};

class FakeEngine final : public Engine {
 public:
  explicit FakeEngine(std::shared_ptr<FakeGuest> guest, Capabilities capabilities = {.name = "fake",
                                                                                     .maximum_vps = 64,
                                                                                     .tsc_frequency = 1'000'000'000,
                                                                                     .saved_state = true,
                                                                                     .dirty_pages = true,
                                                                                     .takes_memory = true});

  const Capabilities& capabilities() const override { return capabilities_; }
  Result<std::unique_ptr<Partition>> create_partition(const PartitionSettings& settings) override;

 private:
  std::shared_ptr<FakeGuest> guest_;
  Capabilities capabilities_;
};

}  // namespace bulkhead::engine
