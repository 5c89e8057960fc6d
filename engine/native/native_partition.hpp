// SPDX-License-Identifier: Apache-2.0
//
// A child partition of the hypervisor.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "engine/engine.hpp"
#include "engine/native/changing_memory.hpp"
#include "engine/native/vid.hpp"
#include "engine/synic_calls.hpp"
#include "engine/written_pages.hpp"

namespace bulkhead::engine::native {

class NativePartition final : public Partition {
 public:
  /// `tsc_frequency`: of the guest's time stamp counter, in Hz.
  static Result<std::unique_ptr<Partition>> create(Vid& vid, const PartitionSettings& settings,
                                                   std::uint64_t tsc_frequency);

  Result<> map_memory(GuestMemory& memory) override;
  Result<std::unique_ptr<VirtualProcessor>> create_vp(std::uint32_t index) override;
  void send_interrupt(abi::InterruptMessage message) override;
  /// The hypervisor knows from the interrupts themselves which are level-triggered.
  void set_level_messages(std::span<const abi::InterruptMessage> messages) override;
  void set_synic_listener(SynicListener* listener) override { synic_calls_.set_listener(listener); }
  SynicStatus post_message(abi::VpIndex vp, abi::Sint sint, const abi::SynicMessage& message) override;
  SynicStatus signal_event(abi::VpIndex vp, abi::Sint sint, std::uint16_t flag) override;
  std::optional<std::uint64_t> reference_time() const override;
  Result<> take_memory(GuestPhysicalAddress address, std::uint64_t size) override;
  Result<> give_memory(GuestPhysicalAddress address, std::uint64_t size) override;
  std::uint64_t used_again(GuestPhysicalAddress address, std::uint64_t size) const override;
  Result<> freeze_time() override { return set_time_freeze(true); }
  Result<> thaw_time() override { return set_time_freeze(false); }
  Result<state::SavedUnit> save() override;
  Result<> restore(const state::SavedUnit& saved) override;
  Result<> track_dirty_pages(bool wanted) override;
  Result<DirtyPages> harvest_dirty_pages() override;

  // For its processors.
  VidPartition& vid() const { return *partition_; }
  GuestMemory& memory() const { return *memory_; }
  const SynicCalls& synic_calls() const { return synic_calls_; }
  WrittenPages& written_pages() { return written_pages_; }
  std::uint64_t tsc_frequency() const { return tsc_frequency_; }
  bool time_is_frozen() const { return frozen_; }

 private:
  NativePartition(Vid& vid, std::unique_ptr<VidPartition> partition, const PartitionSettings& settings,
                  std::uint64_t tsc_frequency)
      : vid_(vid), partition_(std::move(partition)), settings_(settings), tsc_frequency_(tsc_frequency) {}
  Result<> install_intercepts();
  Result<> intercept(hv_intercept_type type, std::uint32_t access, std::uint64_t parameter, std::string_view what);
  Result<> set_time_freeze(bool frozen);
  Result<> change_access(std::uint64_t flags, DirtyPages* dirty);

  Vid& vid_;
  std::unique_ptr<VidPartition> partition_;
  PartitionSettings settings_;
  std::uint64_t tsc_frequency_;
  bool frozen_ = false;
  bool tracks_ = false;
  WrittenPages written_pages_;  // by the emulator
  GuestMemory* memory_ = nullptr;
  SynicCalls synic_calls_;
  std::vector<std::unique_ptr<VidMemory>> pinned_;
  std::optional<ChangingMemory> changing_;  // instead, where memory changes
};

/// `interrupt` as the hypervisor's call for it wants it: MSI fields to type, flags and destination.
bulkhead_assert_interrupt interrupt_request(abi::InterruptMessage message);

}  // namespace bulkhead::engine::native
