// SPDX-License-Identifier: Apache-2.0
//
// A partition on KVM: the machine's descriptor, its memory slots and its routing table.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "engine/engine.hpp"
#include "engine/file_descriptor.hpp"
#include "engine/kvm/kvm_abi.hpp"
#include "engine/kvm/kvm_host.hpp"
#include "engine/kvm/kvm_memory.hpp"
#include "engine/kvm/kvm_synic.hpp"

namespace bulkhead::engine::kvm {

/// Three pages that Intel's virtualization needs when a guest runs in real mode, and the page of its identity map, in a
/// hole of the guest's address space below the firmware.
inline constexpr std::uint64_t kTaskStateAddress = 0xfffbd000;
inline constexpr std::uint64_t kIdentityMapAddress = 0xfffbc000;

class KvmVirtualProcessor;

class KvmPartition final : public Partition {
 public:
  /// Of a new machine.
  static Result<std::unique_ptr<Partition>> create(FileDescriptor machine, const PartitionSettings& settings,
                                                   std::shared_ptr<const KvmHost> host);

  Result<> map_memory(GuestMemory& memory) override;
  Result<std::unique_ptr<VirtualProcessor>> create_vp(std::uint32_t index) override;
  void send_interrupt(abi::InterruptMessage message) override;
  void set_level_messages(std::span<const abi::InterruptMessage> messages) override;
  void set_synic_listener(SynicListener* listener) override;
  SynicStatus post_message(abi::VpIndex vp, abi::Sint sint, const abi::SynicMessage& message) override;
  SynicStatus signal_event(abi::VpIndex vp, abi::Sint sint, std::uint16_t flag) override;
  std::optional<std::uint64_t> reference_time() const override;
  // The kernel lets guests reach all memory, and takes pages out of their tables as they go back to the host.
  Result<> take_memory(GuestPhysicalAddress address, std::uint64_t size) override;
  Result<> give_memory(GuestPhysicalAddress, std::uint64_t) override { return {}; }
  std::uint64_t used_again(GuestPhysicalAddress address, std::uint64_t size) const override;
  Result<> freeze_time() override;
  Result<> thaw_time() override;
  Result<state::SavedUnit> save() override;
  Result<> restore(const state::SavedUnit& saved) override;
  Result<> track_dirty_pages(bool wanted) override;
  Result<DirtyPages> harvest_dirty_pages() override;

  // For its processors.
  const KvmHost& host() const { return *host_; }
  int machine() const { return machine_.get(); }
  KvmSynic* synic() const { return synic_.get(); }
  const GuestMemory* guest_memory() const { return guest_memory_; }
  /// The reference time at which time stands still, or nothing.
  std::optional<std::uint64_t> frozen_at() const { return frozen_at_; }
  void add(KvmVirtualProcessor& vp);
  void remove(KvmVirtualProcessor& vp);

 private:
  KvmPartition(FileDescriptor machine, const PartitionSettings& settings, std::shared_ptr<const KvmHost> host);

  Result<> enable_synic();
  Result<> filter_registers();
  bool write_routes();

  FileDescriptor machine_;
  PartitionSettings settings_;
  std::shared_ptr<const KvmHost> host_;
  KvmMemory memory_;
  GuestMemory* guest_memory_ = nullptr;  // what is mapped
  std::vector<KvmVirtualProcessor*> vps_;
  std::optional<std::uint64_t> frozen_at_;  // the reference time, while it stands still

  std::mutex routing_mutex_;
  std::vector<abi::InterruptMessage> level_messages_;
  std::unique_ptr<KvmSynic> synic_;  // or none
};

}  // namespace bulkhead::engine::kvm
