// SPDX-License-Identifier: Apache-2.0
#include "engine/native/native_partition.hpp"

#include <cpuid.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>

#include "engine/guest_crash.hpp"
#include "engine/native/native_virtual_processor.hpp"
#include "engine/saved_partition.hpp"

namespace bulkhead::engine::native {
namespace {

/// The physical address width, which a guest has from the processor as it is.
std::uint8_t physical_address_bits() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(0x80000008, &eax, &ebx, &ecx, &edx) == 0) return 36;
  return static_cast<std::uint8_t>(eax);
}

template <typename Input>
std::span<const std::uint8_t> bytes_of(const Input& input) {
  return {reinterpret_cast<const std::uint8_t*>(&input), sizeof(input)};
}

/// Of a harvest, at once: 8 MiB, which is whole large pages.
constexpr std::uint32_t kPagesAtOnce = 2048;
constexpr const char* kFixedMemory = "the partition was made with memory that does not change";

}  // namespace

bulkhead_assert_interrupt interrupt_request(abi::InterruptMessage message) {
  bulkhead_assert_interrupt request = {};
  // The delivery modes of a message and the interrupt types of the TLFS have the same numbers.
  request.interrupt_type = message.delivery_mode();
  request.flags = (message.level_triggered() ? HV_INTERRUPT_LEVEL_TRIGGERED : 0) |
                  (message.logical_destination() ? HV_INTERRUPT_LOGICAL_DESTINATION : 0);
  request.destination = message.destination();
  request.vector = message.vector();
  return request;
}

Result<std::unique_ptr<Partition>> NativePartition::create(Vid& vid, const PartitionSettings& settings,
                                                           std::uint64_t tsc_frequency) {
  auto vid_partition = vid.create_partition(HV_PARTITION_CREATION_LAPIC_PRESENT | HV_PARTITION_CREATION_X2APIC_CAPABLE);
  if (!vid_partition) return std::unexpected(vid_partition.error());
  std::unique_ptr<NativePartition> partition(
      new NativePartition(vid, std::move(*vid_partition), settings, tsc_frequency));

  hv_partition_property property = {};
  property.code = HV_PARTITION_PROPERTY_PROCESSORS_PER_SOCKET;
  property.value = settings.vp_count;
  if (auto set = partition->partition_->hypercall(HV_CALL_SET_PARTITION_PROPERTY, bytes_of(property), {}); !set) {
    return std::unexpected(set.error().within("cannot set the number of processors of the partition"));
  }
  if (auto initialized = partition->partition_->initialize(); !initialized) return std::unexpected(initialized.error());
  if (auto installed = partition->install_intercepts(); !installed) return std::unexpected(installed.error());
  return partition;
}

Result<> NativePartition::intercept(hv_intercept_type type, std::uint32_t access, std::uint64_t parameter,
                                    std::string_view what) {
  hv_install_intercept input = {};
  input.access_mask = access;
  input.intercept_type = type;
  input.intercept_parameter = parameter;
  auto installed = partition_->hypercall(HV_CALL_INSTALL_INTERCEPT, bytes_of(input), {});
  if (installed) return {};
  return std::unexpected(installed.error().within(fmt::format("cannot intercept {}", what)));
}

Result<> NativePartition::install_intercepts() {
  constexpr std::uint32_t kRead = HV_INTERCEPT_ACCESS_READ, kWrite = HV_INTERCEPT_ACCESS_WRITE;
  Result<> done = intercept(HV_INTERCEPT_TYPE_IO_PORT_RANGE, kRead | kWrite, 0xffffull << 16, "the I/O ports");
  if (done) done = intercept(HV_INTERCEPT_TYPE_APIC_EOI, kWrite, 0, "the ends of interrupts");
  if (done) done = intercept(HV_INTERCEPT_TYPE_MSR_INDEX, kWrite, kMsrReset, "the RESET register");
  if (done) done = intercept(HV_INTERCEPT_TYPE_MSR_INDEX, kWrite, kMsrCrashControl, "the crash register");
  if (done && settings_.synic) {
    done = intercept(HV_INTERCEPT_TYPE_UNKNOWN_SYNIC_CONNECTION, HV_INTERCEPT_ACCESS_EXECUTE, 0, "messages and events");
  }
  return done;
}

Result<> NativePartition::map_memory(GuestMemory& memory) {
  memory_ = &memory;
  synic_calls_.set_memory(memory);
  if (settings_.memory_changes) return changing_.emplace(vid_, *partition_, memory).map();
  for (const auto& region : memory.regions()) {
    auto pinned = vid_.create_memory(region.bytes, !region.writable);
    if (!pinned) return std::unexpected(pinned.error());
    const std::uint32_t access = HV_MAP_GPA_READABLE | HV_MAP_GPA_KERNEL_EXECUTABLE | HV_MAP_GPA_USER_EXECUTABLE |
                                 (region.writable ? HV_MAP_GPA_WRITABLE : 0);
    if (auto mapped = partition_->map_memory(**pinned, access, region.base, region.bytes.size()); !mapped)
      return mapped;
    pinned_.push_back(std::move(*pinned));
  }
  return {};
}

Result<std::unique_ptr<VirtualProcessor>> NativePartition::create_vp(std::uint32_t index) {
  if (index >= settings_.vp_count) return fail(fmt::format("the partition has no virtual processor {}", index));
  if (memory_ == nullptr) return fail("a partition gets its memory before its virtual processors");
  auto processor = partition_->create_vp(index);
  if (!processor) return std::unexpected(processor.error());
  hv_register_assignment suspend = {};
  suspend.name = static_cast<std::uint32_t>(abi::RegisterName::ExplicitSuspend);
  if (auto started = (*processor)->set_registers(std::span(&suspend, 1)); !started)
    return std::unexpected(started.error());
  return std::make_unique<NativeVirtualProcessor>(std::move(*processor), *this, index, physical_address_bits());
}

void NativePartition::send_interrupt(abi::InterruptMessage message) {
  // An interrupt that no local APIC takes, or of a kind that does not exist, is lost, as on the bus.
  [[maybe_unused]] const auto lost = partition_->assert_interrupt(interrupt_request(message));
}

void NativePartition::set_level_messages(std::span<const abi::InterruptMessage>) {}

SynicStatus NativePartition::post_message(abi::VpIndex vp, abi::Sint sint, const abi::SynicMessage& message) {
  bulkhead_post_message request = {};
  request.vp_index = std::to_underlying(vp);
  request.sint = std::to_underlying(sint);
  static_assert(sizeof request.message == sizeof message);
  std::memcpy(request.message, &message, sizeof message);
  return partition_->post_message(request).value_or(SynicStatus::Refused);
}

SynicStatus NativePartition::signal_event(abi::VpIndex vp, abi::Sint sint, std::uint16_t flag) {
  bulkhead_signal_event request = {};
  request.vp_index = std::to_underlying(vp);
  request.flag = flag;
  request.sint = std::to_underlying(sint);
  return partition_->signal_event(request).value_or(SynicStatus::Refused);
}

std::optional<std::uint64_t> NativePartition::reference_time() const {
  hv_partition_property property = {};
  property.code = HV_PARTITION_PROPERTY_REFERENCE_TIME;
  const auto input = bytes_of(property).first(HV_GET_PARTITION_PROPERTY_INPUT_SIZE);
  std::array<std::uint8_t, sizeof(std::uint64_t)> output = {};
  if (!partition_->hypercall(HV_CALL_GET_PARTITION_PROPERTY, input, output)) return std::nullopt;
  return std::bit_cast<std::uint64_t>(output);
}

Result<> NativePartition::take_memory(GuestPhysicalAddress address, std::uint64_t size) {
  return changing_ ? changing_->take(address, size) : fail(kFixedMemory);
}

Result<> NativePartition::give_memory(GuestPhysicalAddress address, std::uint64_t size) {
  return changing_ ? changing_->give(address, size) : fail(kFixedMemory);
}

std::uint64_t NativePartition::used_again(GuestPhysicalAddress address, std::uint64_t size) const {
  return changing_ ? changing_->used_again(address, size) : 0;
}

Result<> NativePartition::set_time_freeze(bool frozen) {
  if (frozen == frozen_) return {};
  hv_partition_property property = {};
  property.code = HV_PARTITION_PROPERTY_TIME_FREEZE;
  property.value = frozen;
  if (auto set = partition_->hypercall(HV_CALL_SET_PARTITION_PROPERTY, bytes_of(property), {}); !set) {
    return std::unexpected(set.error().within(frozen ? "cannot stop the partition's time" : "cannot start it again"));
  }
  frozen_ = frozen;
  return {};
}

Result<state::SavedUnit> NativePartition::save() {
  if (!frozen_) return fail("a partition is saved only while its time stands still");
  const auto time = reference_time();
  if (!time) return fail("cannot read the partition's reference time");
  return save_partition(settings_, *time);
}

Result<> NativePartition::restore(const state::SavedUnit& saved) {
  if (!frozen_) return fail("a partition is restored only while its time stands still");
  const auto time = read_saved_partition(saved, settings_, INT64_MAX);
  if (!time) return std::unexpected(time.error());
  hv_partition_property property = {};
  property.code = HV_PARTITION_PROPERTY_REFERENCE_TIME;
  property.value = *time;
  if (auto set = partition_->hypercall(HV_CALL_SET_PARTITION_PROPERTY, bytes_of(property), {}); !set) {
    return std::unexpected(set.error().within("cannot set the partition's reference time"));
  }
  return {};
}

/// For all pages that the guest can write: call 0xc9 with these flags, and those that were dirty to `dirty`.
Result<> NativePartition::change_access(std::uint64_t flags, DirtyPages* dirty) {
  std::vector<std::uint8_t> states(kPagesAtOnce);
  for (const auto& region : memory_->regions()) {
    if (!region.writable) continue;
    const std::uint64_t end = region.base + region.bytes.size();
    for (GuestPhysicalAddress address = region.base; address < end; address += kPagesAtOnce * kGuestPageSize) {
      const auto count =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(kPagesAtOnce, (end - address) / kGuestPageSize));
      hv_get_gpa_pages_access_states input = {};
      input.flags = flags;
      input.gpa_base = address / kGuestPageSize;
      const auto output = std::span(states).first(count);
      if (auto asked = partition_->hypercall(HV_CALL_GET_GPA_PAGES_ACCESS_STATES, bytes_of(input), output, count);
          !asked) {
        return std::unexpected(asked.error().within("cannot ask which pages were written"));
      }
      if (dirty == nullptr) continue;
      for (std::uint32_t page = 0; page < count; ++page) {
        if (output[page] & HV_GPA_PAGE_DIRTY) dirty->mark(address + page * kGuestPageSize);
      }
    }
  }
  return {};
}

/// What was written before is taken back first. Without tracking nobody looks, and the hypervisor has its large pages back.
Result<> NativePartition::track_dirty_pages(bool wanted) {
  if (memory_ == nullptr) return fail("a partition gets its memory before its dirty pages are tracked");
  if (wanted) {
    written_pages_.track(memory_->regions());
  } else {
    written_pages_.stop();
  }
  tracks_ = false;
  if (auto changed = change_access(wanted ? HV_GPA_ACCESS_CLEAR_DIRTY : HV_GPA_ACCESS_SET_DIRTY, nullptr); !changed) {
    return changed;
  }
  tracks_ = wanted;
  return {};
}

Result<DirtyPages> NativePartition::harvest_dirty_pages() {
  if (!tracks_) return fail("dirty pages are not tracked");
  DirtyPages pages(memory_->regions());
  if (auto changed = change_access(HV_GPA_ACCESS_CLEAR_DIRTY, &pages); !changed) {
    return std::unexpected(changed.error());
  }
  written_pages_.harvest(memory_->regions(), pages);
  return pages;
}

}  // namespace bulkhead::engine::native
