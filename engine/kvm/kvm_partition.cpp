// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/kvm_partition.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

#include "engine/kvm/cpuid.hpp"
#include "engine/kvm/kvm_virtual_processor.hpp"

namespace bulkhead::engine::kvm {
namespace {

/// Of the routing table, the entries whose interrupts' ends KVM reports: as many as an IOAPIC has inputs.
constexpr std::size_t kReportedRoutes = 24;

}  // namespace

KvmPartition::KvmPartition(FileDescriptor machine, std::size_t run_size, const PartitionSettings& settings,
                           const std::vector<kvm_cpuid_entry2>& cpuid)
    : machine_(std::move(machine)), run_size_(run_size), settings_(settings), cpuid_(cpuid) {}

Result<std::unique_ptr<Partition>> KvmPartition::create(int device, const PartitionSettings& settings,
                                                        const std::vector<kvm_cpuid_entry2>& cpuid) {
  FileDescriptor machine(ioctl(device, KVM_CREATE_VM, 0));
  if (!machine.is_open()) return std::unexpected(Error::from_errno("cannot create a KVM machine", errno));
  std::uint64_t identity_map = kIdentityMapAddress;
  if (ioctl(machine.get(), KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
      ioctl(machine.get(), KVM_SET_TSS_ADDR, kTaskStateAddress) < 0) {
    return std::unexpected(Error::from_errno("cannot place KVM's own pages", errno));
  }
  kvm_enable_cap split = {};
  split.cap = KVM_CAP_SPLIT_IRQCHIP;
  split.args[0] = kReportedRoutes;
  if (ioctl(machine.get(), KVM_ENABLE_CAP, &split) < 0) {
    return std::unexpected(Error::from_errno("cannot have local APICs in the kernel", errno));
  }
  const int run_size = ioctl(device, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_size < static_cast<int>(sizeof(kvm_run))) {
    return std::unexpected(Error::from_errno("cannot ask KVM for the size of a processor's shared state", errno));
  }
  std::unique_ptr<KvmPartition> partition(
      new KvmPartition(std::move(machine), static_cast<std::size_t>(run_size), settings, cpuid));
  if (settings.synic) {
    if (auto enabled = partition->enable_synic(); !enabled) return std::unexpected(enabled.error());
  }
  return partition;
}

Result<> KvmPartition::enable_synic() {
  synic_ = std::make_unique<KvmSynic>(machine_.get(), settings_.vp_count, kReportedRoutes);
  if (!KvmSynic::filter_end_of_message(machine_.get())) {
    return std::unexpected(Error::from_errno("cannot hear of the messages that a guest has taken", errno));
  }
  if (!write_routes()) return std::unexpected(Error::from_errno("cannot route synthetic interrupts", errno));
  return {};
}

void KvmPartition::set_synic_listener(SynicListener* listener) {
  if (synic_) synic_->set_listener(listener);
}

SynicStatus KvmPartition::post_message(abi::VpIndex vp, abi::Sint sint, const abi::SynicMessage& message) {
  return synic_ ? synic_->post_message(vp, sint, message) : SynicStatus::Refused;
}

SynicStatus KvmPartition::signal_event(abi::VpIndex vp, abi::Sint sint, std::uint16_t flag) {
  return synic_ ? synic_->signal_event(vp, sint, flag) : SynicStatus::Refused;
}

Result<> KvmPartition::map_memory(GuestMemory& memory) {
  if (synic_) synic_->set_memory(memory);
  std::uint32_t slot = 0;
  for (const auto& region : memory.regions()) {
    kvm_userspace_memory_region mapping = {};
    mapping.slot = slot++;
    mapping.flags = region.writable ? 0 : KVM_MEM_READONLY;
    mapping.guest_phys_addr = region.base;
    mapping.memory_size = region.bytes.size();
    mapping.userspace_addr = reinterpret_cast<std::uintptr_t>(region.bytes.data());
    if (ioctl(machine_.get(), KVM_SET_USER_MEMORY_REGION, &mapping) < 0) {
      return std::unexpected(Error::from_errno(
          fmt::format("cannot give {:#x} bytes of memory to the guest at {:#x}", region.bytes.size(), region.base),
          errno));
    }
  }
  return {};
}

Result<std::unique_ptr<VirtualProcessor>> KvmPartition::create_vp(std::uint32_t index) {
  if (index >= settings_.vp_count) return fail(fmt::format("the partition has no virtual processor {}", index));
  FileDescriptor processor(ioctl(machine_.get(), KVM_CREATE_VCPU, index));
  if (!processor.is_open()) {
    return std::unexpected(Error::from_errno(fmt::format("cannot create virtual processor {}", index), errno));
  }
  return KvmVirtualProcessor::create(std::move(processor), run_size_, index,
                                     guest_cpuid(cpuid_, index, settings_.vp_count, settings_.synic), synic_.get());
}

void KvmPartition::send_interrupt(abi::InterruptMessage message) {
  kvm_msi signal = {};
  signal.address_lo = static_cast<std::uint32_t>(message.address);
  signal.address_hi = static_cast<std::uint32_t>(message.address >> 32);
  signal.data = message.data;
  // A message that no local APIC takes is lost, as on the bus.
  ioctl(machine_.get(), KVM_SIGNAL_MSI, &signal);
}

void KvmPartition::set_level_messages(std::span<const abi::InterruptMessage> messages) {
  const std::lock_guard lock(routing_mutex_);
  const auto reported = messages.first(std::min(messages.size(), kReportedRoutes));
  if (std::ranges::equal(reported, level_messages_)) return;
  level_messages_.assign(reported.begin(), reported.end());

  // Refused only for entries of an unknown type or flag, which these are not, or without memory; then the ends of
  // interrupts go unreported until the next change, as they do for a message that was not announced.
  if (!write_routes()) level_messages_.clear();
}

bool KvmPartition::write_routes() {
  std::vector<kvm_irq_routing_entry> routes;
  for (std::size_t input = 0; input < level_messages_.size(); ++input) {
    kvm_irq_routing_entry entry = {};
    entry.gsi = static_cast<std::uint32_t>(input);
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = static_cast<std::uint32_t>(level_messages_[input].address);
    entry.u.msi.address_hi = static_cast<std::uint32_t>(level_messages_[input].address >> 32);
    entry.u.msi.data = level_messages_[input].data;
    routes.push_back(entry);
  }
  if (synic_) synic_->append_routes(routes);

  std::vector<std::uint8_t> storage(sizeof(kvm_irq_routing) + routes.size() * sizeof(kvm_irq_routing_entry));
  auto* table = reinterpret_cast<kvm_irq_routing*>(storage.data());
  table->nr = static_cast<std::uint32_t>(routes.size());
  std::ranges::copy(routes, table->entries);
  return ioctl(machine_.get(), KVM_SET_GSI_ROUTING, table) >= 0;
}

}  // namespace bulkhead::engine::kvm
