// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/partition/partition.hpp"

#include <algorithm>
#include <bit>
#include <new>

#include "hypervisor/machine.hpp"
#include "hypervisor/memory/root_memory.hpp"
#include "hypervisor/vp/virtual_processor.hpp"

namespace bulkhead::hypervisor {
namespace {

/// Tables (of 512 entries each) that finalize clears in one call.
constexpr unsigned kTablesPerFinalize = 4;

std::byte* memory_of(const std::optional<PageMapping>& mapping, GuestPage page) {
  if (!mapping) return nullptr;
  return machine::frame_pointer(mapping->frame + page.number % pages_in(mapping->size));
}

}  // namespace

static_assert(sizeof(Partition) <= kPageSize);

Partition::Partition(std::uint64_t id, std::uint64_t creation_flags, Frame frame) : id_(id), frame_(frame) {
  configuration_.creation_flags = creation_flags;
  const std::uint64_t now = machine::tsc();
  // Another one than in a partition that this one's memory may come from.
  lock()->reference_tsc_sequence = static_cast<std::uint32_t>(now);
  configuration_.tsc_offset = -static_cast<std::int64_t>(now);
  configuration_.reference_time.start(now, machine::tsc_frequency());
}

hv_status Partition::initialize() {
  auto guarded = lock();
  if (guarded->state != PartitionState::Created) return HV_STATUS_INVALID_PARTITION_STATE;
  if (guarded->pool.available() < 2) return HV_STATUS_INSUFFICIENT_MEMORY;
  address_space_ = *PageTable<NestedFormat>::create(guarded->pool);
  const Frame results = *guarded->pool.allocate();
  configuration_.cpuid_results =
      CpuidResults(reinterpret_cast<CpuidResults::Entry*>(machine::frame_pointer(results)), results);
  guarded->state = PartitionState::Active;
  return HV_STATUS_SUCCESS;
}

std::optional<hv_status> Partition::finalize() {
  auto guarded = lock();
  if (guarded->state == PartitionState::Created) {
    guarded->state = PartitionState::Finalized;
    return HV_STATUS_SUCCESS;
  }
  if (guarded->state == PartitionState::Finalized) return HV_STATUS_INVALID_PARTITION_STATE;
  if (any_owned(*guarded)) return HV_STATUS_OBJECT_IN_USE;
  guarded->state = PartitionState::Finalizing;
  for (std::uint32_t index = 0; index < kMaximumVps; ++index) {
    if (guarded->vps[index]) free_vp(*guarded, index);
  }
  const auto unshare = [](const PageMapping& mapping) { root_memory().lock()->unshare(mapping.frame); };
  // No VP is left to use a translation, so what is unmapped here needs no flush.
  if (!address_space_.release(guarded->pool, kTablesPerFinalize, unshare)) return std::nullopt;
  guarded->pool.free(configuration_.cpuid_results.frame());
  configuration_.cpuid_results = {};
  guarded->state = PartitionState::Finalized;
  return HV_STATUS_SUCCESS;
}

hv_status Partition::create_vp(std::uint32_t index) {
  if (index >= kMaximumVps) return HV_STATUS_INVALID_VP_INDEX;
  auto guarded = lock();
  if (guarded->state != PartitionState::Active || any_dispatched()) return HV_STATUS_INVALID_PARTITION_STATE;
  if (guarded->vps[index]) return HV_STATUS_OBJECT_IN_USE;
  const std::size_t hardware_frames = machine::vp_hardware_frame_count();
  if (hardware_frames > HardwareFrames::kMaximum) return HV_STATUS_FEATURE_UNAVAILABLE;
  if (guarded->pool.available() < 1 + hardware_frames) return HV_STATUS_INSUFFICIENT_MEMORY;

  const Frame object = *guarded->pool.allocate();
  HardwareFrames frames;
  for (std::size_t i = 0; i < hardware_frames; ++i) frames.add(*guarded->pool.allocate());
  VpHardware* hardware = machine::create_vp_hardware(
      frames.all(), {.second_level_table = address_space_.root(), .tsc_offset = configuration_.tsc_offset});
  auto* vp = new (machine::frame_pointer(object)) VirtualProcessor(*this, index, *hardware, object, frames);
  guarded->vps[index] = vp;
  ++configuration_.vp_count;
  refresh_reference_tsc(*guarded);
  return HV_STATUS_SUCCESS;
}

void Partition::free_vp(Guarded& guarded, std::uint32_t index) {
  VirtualProcessor& vp = *guarded.vps[index];
  for (const hv_vp_state_page_type type : {HV_VP_STATE_PAGE_REGISTERS, HV_VP_STATE_PAGE_INTERCEPT_MESSAGE}) {
    if (vp.state_page(type)) root_memory().lock()->unshare(*vp.state_page(type));
  }
  const HardwareFrames frames = vp.hardware_frames();
  const Frame object = vp.frame();
  machine::destroy_vp_hardware(vp.hardware());
  vp.~VirtualProcessor();
  for (const Frame frame : frames.all()) guarded.pool.free(frame);
  guarded.pool.free(object);
  guarded.vps[index] = nullptr;
  --configuration_.vp_count;
}

hv_status Partition::delete_vp(std::uint32_t index) {
  auto guarded = lock();
  if (index >= kMaximumVps || !guarded->vps[index]) return HV_STATUS_INVALID_VP_INDEX;
  if (guarded->vps[index]->owned || any_dispatched()) return HV_STATUS_OBJECT_IN_USE;
  free_vp(*guarded, index);
  refresh_reference_tsc(*guarded);
  return HV_STATUS_SUCCESS;
}

Partition::VpOrStatus Partition::acquire_vp(std::uint32_t index, bool dispatch) {
  auto guarded = lock();
  if (guarded->state != PartitionState::Active) return {nullptr, HV_STATUS_INVALID_PARTITION_STATE};
  if (index >= kMaximumVps || !guarded->vps[index]) return {nullptr, HV_STATUS_INVALID_VP_INDEX};
  VirtualProcessor& vp = *guarded->vps[index];
  if (vp.owned) return {nullptr, HV_STATUS_INVALID_VP_STATE};
  vp.owned = true;
  if (dispatch) presence_[index].store(machine::current_lp() + 1);
  return {&vp, HV_STATUS_SUCCESS};
}

void Partition::release_vp(VirtualProcessor& vp) {
  auto guarded = lock();
  presence_[vp.index()].store(0);
  vp.owned = false;
}

bool Partition::any_dispatched() const {
  for (const auto& presence : presence_) {
    if (presence.load()) return true;
  }
  return false;
}

bool Partition::any_owned(const Guarded& guarded) {
  return std::ranges::any_of(guarded.vps, [](const VirtualProcessor* vp) { return vp && vp->owned; });
}

hv_status Partition::freeze_time(bool frozen) {
  auto guarded = lock();
  if (any_owned(*guarded)) return HV_STATUS_INVALID_PARTITION_STATE;
  const std::uint64_t now = machine::tsc();
  if (frozen) {
    configuration_.reference_time.freeze(now);
  } else {
    const std::uint64_t passed = configuration_.reference_time.thaw(now);
    configuration_.tsc_offset -= static_cast<std::int64_t>(passed);
    for (VirtualProcessor* vp : guarded->vps) {
      if (vp) vp->skip_time(passed);
    }
  }
  refresh_reference_tsc(*guarded);
  return HV_STATUS_SUCCESS;
}

bool Partition::settle(std::uint32_t vp_index, std::uint32_t& seen_generation) {
  const std::uint32_t generation = generation_.load();
  // The lock is not needed: only this logical processor changes the word while the VP is dispatched.
  const auto lp = static_cast<std::uint32_t>(presence_[vp_index].load(std::memory_order_relaxed));
  presence_[vp_index].store(std::uint64_t{generation} << 32 | lp);
  const bool flush = generation != seen_generation;
  seen_generation = generation;
  // After the presence: whoever finds this VP absent leaves its wish in time for this look.
  return take_flush_request(vp_index) || flush;
}

hv_status Partition::map(GuestPage page, Frame frame, PageSize size, PageRights rights, std::optional<Frame>& retired) {
  auto guarded = lock();
  if (guarded->state != PartitionState::Active) return HV_STATUS_INVALID_PARTITION_STATE;
  const auto result = address_space_.map(page.number, frame, size, rights, guarded->pool, retired);
  if (result) return HV_STATUS_SUCCESS;
  switch (result.error()) {
    case PageTableError::OutOfMemory: return HV_STATUS_INSUFFICIENT_MEMORY;
    case PageTableError::AlreadyMapped: return HV_STATUS_OPERATION_DENIED;
    default: return HV_STATUS_INVALID_PARAMETER;
  }
}

std::expected<Frame, hv_status> Partition::unmap(GuestPage page, PageSize size, std::optional<Frame>& table) {
  auto guarded = lock();
  if (guarded->state != PartitionState::Active) return std::unexpected(HV_STATUS_INVALID_PARTITION_STATE);
  // A page that is in pieces is still one page.
  if (size == PageSize::k4KiB && address_space_.is_cut(page.number)) return std::unexpected(HV_STATUS_NOT_FOUND);
  if (page.number % pages_in(size) == 0) table = address_space_.join(page.number);
  const auto mapping = address_space_.unmap(page.number, size);
  if (mapping) return mapping->frame;
  const bool absent = mapping.error() == PageTableError::NotMapped || mapping.error() == PageTableError::WrongSize;
  return std::unexpected(absent ? HV_STATUS_NOT_FOUND : HV_STATUS_INVALID_PARAMETER);
}

void Partition::retire() {
  std::uint32_t generation = 0;
  {
    auto guarded = lock();
    generation = generation_.fetch_add(1) + 1;
    for (VirtualProcessor* vp : guarded->vps) {
      if (!vp) continue;
      vp->mailbox().call();
      if (const std::uint64_t presence = presence_[vp->index()].load()) {
        machine::kick(static_cast<std::uint32_t>(presence) - 1);
      }
    }
  }
  for (auto& presence : presence_) {
    for (;;) {
      const std::uint64_t value = presence.load();
      // Generations wrap around, so their distance counts.
      if (value == 0 || static_cast<std::int32_t>(static_cast<std::uint32_t>(value >> 32) - generation) >= 0) break;
      __builtin_ia32_pause();
    }
  }
}

std::expected<std::uint8_t, hv_status> Partition::change_access(GuestPage page, std::uint64_t flags,
                                                                std::optional<Frame>& table) {
  const auto bits = [flags](std::uint64_t accessed, std::uint64_t dirty) {
    return (flags & accessed ? NestedFormat::kAccessed : 0) | (flags & dirty ? NestedFormat::kDirty : 0);
  };
  auto guarded = lock();
  if (guarded->state != PartitionState::Active) return std::unexpected(HV_STATUS_INVALID_PARTITION_STATE);
  const auto old =
      address_space_.change_access(page.number, bits(HV_GPA_ACCESS_CLEAR_ACCESSED, HV_GPA_ACCESS_CLEAR_DIRTY),
                                   bits(HV_GPA_ACCESS_SET_ACCESSED, HV_GPA_ACCESS_SET_DIRTY), guarded->pool);
  if (!old) {
    return std::unexpected(old.error() == PageTableError::OutOfMemory ? HV_STATUS_INSUFFICIENT_MEMORY
                                                                      : HV_STATUS_NOT_FOUND);
  }
  // Nobody looks for single pages any more once the last of them is set dirty.
  if ((flags & HV_GPA_ACCESS_SET_DIRTY) && page.number % kPagesPerLargePage == kPagesPerLargePage - 1) {
    table = address_space_.join(page.number);
  }
  return static_cast<std::uint8_t>((*old & NestedFormat::kAccessed ? HV_GPA_PAGE_ACCESSED : 0) |
                                   (*old & NestedFormat::kDirty ? HV_GPA_PAGE_DIRTY : 0));
}

const std::byte* Partition::page_at(GuestPage page) const { return memory_of(address_space_.walk(page.number), page); }

std::byte* Partition::page_to_write(GuestPage page) const {
  return memory_of(address_space_.walk_to_write(page.number), page);
}

/// After something was posted: the VP hears of it. Returns its bit if it has to be dispatched for that.
std::uint64_t Partition::tell(VirtualProcessor& vp) {
  if (vp.unblock()) return 1ull << vp.index();
  const std::uint64_t presence = presence_[vp.index()].load();
  const std::uint32_t lp = static_cast<std::uint32_t>(presence) - 1;
  if (presence && lp != machine::current_lp()) machine::kick(lp);
  return 0;
}

std::uint64_t Partition::deliver_to(std::uint64_t vps, const InterruptRequest& request) {
  auto guarded = lock();
  std::uint64_t woken = 0;
  for (; vps; vps &= vps - 1) {
    VirtualProcessor* vp = guarded->vps[static_cast<unsigned>(std::countr_zero(vps))];
    if (vp && vp->apic_address().accepting && vp->mailbox().post(request)) woken |= tell(*vp);
  }
  return woken;
}

void Partition::request_flush(std::uint64_t vps) {
  auto guarded = lock();
  flush_requests_.fetch_or(vps);
  for (; vps; vps &= vps - 1) {
    const auto index = static_cast<unsigned>(std::countr_zero(vps));
    if (!guarded->vps[index]) {
      flush_requests_.fetch_and(~(1ull << index));
      continue;
    }
    guarded->vps[index]->mailbox().call();
    if (const std::uint64_t presence = presence_[index].load()) {
      machine::kick(static_cast<std::uint32_t>(presence) - 1);
    }
  }
}

bool Partition::flush_outstanding(std::uint64_t vps) const {
  for (vps &= flush_requests_.load(); vps; vps &= vps - 1) {
    if (presence_[static_cast<unsigned>(std::countr_zero(vps))].load()) return true;
  }
  return false;
}

template <typename Deliver>
Partition::SynicDelivery Partition::deliver_synic(std::uint32_t vp_index, Deliver&& deliver) {
  auto guarded = lock();
  if (guarded->state != PartitionState::Active) return {HV_STATUS_INVALID_PARTITION_STATE};
  if (vp_index >= kMaximumVps || !guarded->vps[vp_index]) return {HV_STATUS_INVALID_VP_INDEX};
  VirtualProcessor& vp = *guarded->vps[vp_index];
  const VirtualProcessor::SynicResult result = deliver(vp);
  SynicDelivery delivery{.status = result.status, .newly_signaled = result.newly_signaled};
  // An APIC that is switched off loses the interrupt; the message stays.
  if (result.vector && vp.apic_address().accepting && vp.mailbox().post({.vector = *result.vector})) {
    delivery.woken = tell(vp);
  }
  return delivery;
}

Partition::SynicDelivery Partition::post_message(std::uint32_t vp_index, unsigned sint,
                                                 const abi::SynicMessage& message) {
  return deliver_synic(vp_index, [&](VirtualProcessor& vp) { return vp.post_from_parent(sint, message); });
}

Partition::SynicDelivery Partition::signal_event(std::uint32_t vp_index, unsigned sint, std::uint16_t flag) {
  return deliver_synic(vp_index, [&](VirtualProcessor& vp) { return vp.signal_event(sint, flag); });
}

std::uint64_t Partition::deliver_lowest_priority(Guarded& guarded, const InterruptRequest& request,
                                                 std::uint32_t sender) {
  // Any processor that is addressed may be the one; they take turns.
  for (std::uint32_t i = 0; i < kMaximumVps; ++i) {
    const std::uint32_t index = (guarded.next_lowest_priority + i) % kMaximumVps;
    VirtualProcessor* vp = guarded.vps[index];
    if (!vp) continue;
    const ApicAddress address = vp->apic_address();
    if (!address.accepting || !address.matches(request, sender)) continue;
    guarded.next_lowest_priority = index + 1;
    return vp->mailbox().post(request) ? tell(*vp) : 0;
  }
  return 0;
}

std::uint64_t Partition::deliver(const InterruptRequest& request, std::uint32_t sender) {
  auto guarded = lock();
  if (request.mode == DeliveryMode::LowestPriority) return deliver_lowest_priority(*guarded, request, sender);
  // The APIC id is the VP index, so a physical address leads to its only candidate.
  std::uint32_t first = 0, last = kMaximumVps - 1;
  const bool broadcast = request.destination == (request.wide ? 0xffffffffu : 0xffu);
  if (request.kind == Destination::Physical && !broadcast) {
    if (request.destination >= kMaximumVps) return 0;
    first = last = request.destination;
  }
  std::uint64_t woken = 0;
  for (std::uint32_t index = first; index <= last; ++index) {
    VirtualProcessor* vp = guarded->vps[index];
    if (!vp) continue;
    const ApicAddress address = vp->apic_address();
    if (!address.matches(request, sender) || (request.mode == DeliveryMode::Fixed && !address.accepting)) continue;
    if (vp->mailbox().post(request)) woken |= tell(*vp);
  }
  return woken;
}

}  // namespace bulkhead::hypervisor
