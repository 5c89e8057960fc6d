// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/kvm_partition.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#include <algorithm>
#include <cerrno>

#include "engine/guest_crash.hpp"
#include "engine/kvm/cpuid.hpp"
#include "engine/kvm/kvm_time.hpp"
#include "engine/kvm/kvm_virtual_processor.hpp"
#include "engine/saved_partition.hpp"

namespace bulkhead::engine::kvm {
namespace {

/// Of the routing table, the entries whose interrupts' ends KVM reports: as many as an IOAPIC has inputs.
constexpr std::size_t kReportedRoutes = 24;

}  // namespace

KvmPartition::KvmPartition(FileDescriptor machine, const PartitionSettings& settings,
                           std::shared_ptr<const KvmHost> host)
    : machine_(std::move(machine)), settings_(settings), host_(std::move(host)), memory_(machine_.get()) {}

Result<std::unique_ptr<Partition>> KvmPartition::create(FileDescriptor machine, const PartitionSettings& settings,
                                                        std::shared_ptr<const KvmHost> host) {
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
  std::unique_ptr<KvmPartition> partition(new KvmPartition(std::move(machine), settings, std::move(host)));
  if (partition->host().synic) {
    if (auto enabled = partition->enable_synic(); !enabled) return std::unexpected(enabled.error());
  }
  return partition;
}

/// Registers whose accesses are to be exits: EOM, so that we hear when a slot is free, and the crash control register, of which the
/// kernel knows no text.
Result<> KvmPartition::filter_registers() {
  kvm_enable_cap exits = {};
  exits.cap = KVM_CAP_X86_USER_SPACE_MSR;
  exits.args[0] = KVM_MSR_EXIT_REASON_FILTER;
  std::uint8_t none_allowed = 0;
  kvm_msr_filter filter = {};
  filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
  const auto deny = [&](unsigned range, std::uint32_t msr, std::uint32_t access) {
    filter.ranges[range] = {.flags = access, .nmsrs = 1, .base = msr, .bitmap = &none_allowed};
  };
  deny(0, abi::kMsrEom, KVM_MSR_FILTER_WRITE);
  deny(1, kMsrCrashControl, KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE);
  if (ioctl(machine_.get(), KVM_ENABLE_CAP, &exits) >= 0 &&
      ioctl(machine_.get(), KVM_X86_SET_MSR_FILTER, &filter) >= 0) {
    return {};
  }
  return std::unexpected(Error::from_errno("cannot hear of the registers that a guest writes", errno));
}

Result<> KvmPartition::enable_synic() {
  synic_ = std::make_unique<KvmSynic>(machine_.get(), settings_.vp_count, kReportedRoutes);
  if (auto filtered = filter_registers(); !filtered) return filtered;
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

std::optional<std::uint64_t> KvmPartition::reference_time() const {
  if (frozen_at_) return frozen_at_;
  const auto time = read_reference_time(machine_.get());
  return time ? std::optional(*time) : std::nullopt;
}

Result<> KvmPartition::map_memory(GuestMemory& memory) {
  if (synic_) synic_->set_memory(memory);
  guest_memory_ = &memory;
  return memory_.map(memory);
}

Result<> KvmPartition::take_memory(GuestPhysicalAddress address, std::uint64_t size) {
  if (guest_memory_ == nullptr) return fail("a partition gets its memory before it loses any");
  return guest_memory_->discard(address, size);
}

std::uint64_t KvmPartition::used_again(GuestPhysicalAddress address, std::uint64_t size) const {
  return guest_memory_ == nullptr ? 0 : guest_memory_->resident_pages(address, size);
}

Result<> KvmPartition::track_dirty_pages(bool wanted) {
  if (auto tracked = memory_.track_dirty_pages(wanted); !tracked) return tracked;
  if (synic_) synic_->track_dirty_pages(wanted);
  return {};
}

Result<DirtyPages> KvmPartition::harvest_dirty_pages() {
  auto pages = memory_.harvest_dirty_pages();
  if (pages && synic_) synic_->harvest_dirty_pages(*pages);
  return pages;
}

void KvmPartition::add(KvmVirtualProcessor& vp) { vps_.push_back(&vp); }

void KvmPartition::remove(KvmVirtualProcessor& vp) { std::erase(vps_, &vp); }

Result<> KvmPartition::freeze_time() {
  if (frozen_at_) return {};
  if (!host_->saved_state) return fail("this kernel's KVM cannot stop a guest's time: it needs Linux 5.16 or newer");
  const auto time = read_reference_time(machine_.get());
  if (!time) return std::unexpected(time.error());
  const std::uint64_t counter = __rdtsc();
  for (KvmVirtualProcessor* vp : vps_) {
    if (auto frozen = vp->freeze(counter); !frozen) return frozen;
  }
  frozen_at_ = *time;
  return {};
}

Result<> KvmPartition::thaw_time() {
  if (!frozen_at_) return {};
  const std::uint64_t counter = __rdtsc();
  for (KvmVirtualProcessor* vp : vps_) {
    if (auto thawed = vp->thaw(counter); !thawed) return thawed;
  }
  // After the counters: the kernel derives the reference TSC page from both when the clock is set.
  return set_reference_time(machine_.get(), *std::exchange(frozen_at_, std::nullopt));
}

Result<state::SavedUnit> KvmPartition::save() {
  if (!frozen_at_) return fail("a partition is saved only while its time stands still");
  return save_partition(settings_, *frozen_at_);
}

Result<> KvmPartition::restore(const state::SavedUnit& saved) {
  if (!frozen_at_) return fail("a partition is restored only while its time stands still");
  const auto time = read_saved_partition(saved, settings_, INT64_MAX / 100);
  if (!time) return std::unexpected(time.error());
  frozen_at_ = *time;
  return {};
}

Result<std::unique_ptr<VirtualProcessor>> KvmPartition::create_vp(std::uint32_t index) {
  if (index >= settings_.vp_count) return fail(fmt::format("the partition has no virtual processor {}", index));
  FileDescriptor processor(ioctl(machine_.get(), KVM_CREATE_VCPU, index));
  if (!processor.is_open()) {
    return std::unexpected(Error::from_errno(fmt::format("cannot create virtual processor {}", index), errno));
  }
  return KvmVirtualProcessor::create(
      *this, std::move(processor), index,
      guest_cpuid(
          host_->cpuid,
          {.vp = index, .vp_count = settings_.vp_count, .synic = synic_ != nullptr, .connections = settings_.synic}));
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
