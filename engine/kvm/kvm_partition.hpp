// SPDX-License-Identifier: Apache-2.0
//
// A partition on KVM: the machine's descriptor, its memory slots and its routing table.
#pragma once

#include <mutex>
#include <vector>

#include "engine/engine.hpp"
#include "engine/file_descriptor.hpp"
#include "engine/kvm/kvm_abi.hpp"
#include "engine/kvm/kvm_synic.hpp"

namespace bulkhead::engine::kvm {

/// Three pages that Intel's virtualization needs when a guest runs in real mode, and the page of its identity map, in a
/// hole of the guest's address space below the firmware.
inline constexpr std::uint64_t kTaskStateAddress = 0xfffbd000;
inline constexpr std::uint64_t kIdentityMapAddress = 0xfffbc000;

class KvmPartition final : public Partition {
 public:
  static Result<std::unique_ptr<Partition>> create(int device, const PartitionSettings& settings,
                                                   const std::vector<kvm_cpuid_entry2>& cpuid);

  Result<> map_memory(GuestMemory& memory) override;
  Result<std::unique_ptr<VirtualProcessor>> create_vp(std::uint32_t index) override;
  void send_interrupt(abi::InterruptMessage message) override;
  void set_level_messages(std::span<const abi::InterruptMessage> messages) override;
  void set_synic_listener(SynicListener* listener) override;
  SynicStatus post_message(abi::VpIndex vp, abi::Sint sint, const abi::SynicMessage& message) override;
  SynicStatus signal_event(abi::VpIndex vp, abi::Sint sint, std::uint16_t flag) override;

 private:
  KvmPartition(FileDescriptor machine, std::size_t run_size, const PartitionSettings& settings,
               const std::vector<kvm_cpuid_entry2>& cpuid);

  Result<> enable_synic();
  bool write_routes();

  FileDescriptor machine_;
  std::size_t run_size_;
  PartitionSettings settings_;
  std::vector<kvm_cpuid_entry2> cpuid_;

  std::mutex routing_mutex_;
  std::vector<abi::InterruptMessage> level_messages_;
  std::unique_ptr<KvmSynic> synic_;  // or none
};

}  // namespace bulkhead::engine::kvm
