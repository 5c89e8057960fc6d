// SPDX-License-Identifier: Apache-2.0
//
// Calls about pools and about guest physical memory: TLFS, "Memory Pools" and "Guest Physical Address Spaces".
#include <array>

#include "hypervisor/hypercall/root_call.hpp"
#include "hypervisor/memory/root_memory.hpp"
#include "hypervisor/partition/partition_table.hpp"

namespace bulkhead::hypervisor::root {
namespace {

PartitionReference find(std::uint64_t id) { return partition_table().lock()->find(id); }

RootCallResult result_of(const RootMemory::Done& done) { return {done.status, static_cast<std::uint32_t>(done.count)}; }

std::span<std::uint64_t> page_list(std::array<std::uint64_t, kRepsPerEntry>& pages, const RootCall& call) {
  return std::span(pages).first(call.count);
}

}  // namespace

RootCallResult deposit_memory(const RootCall& call) {
  const std::uint64_t id = call.input<hv_deposit_memory>().partition_id;
  std::array<std::uint64_t, kRepsPerEntry> pages;
  std::memcpy(pages.data(), call.elements.data(), call.elements.size());
  if (id == HV_PARTITION_ID_SELF) return result_of(root_memory().lock()->deposit(page_list(pages, call)));
  const PartitionReference partition = find(id);
  if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
  auto guarded = partition->lock();
  return result_of(root_memory().lock()->deposit(page_list(pages, call), guarded->pool));
}

RootCallResult withdraw_memory(const RootCall& call) {
  const std::uint64_t id = call.input<hv_withdraw_memory>().partition_id;
  std::array<std::uint64_t, kRepsPerEntry> pages;
  const auto withdraw = [&]() -> RootCallResult {
    if (id == HV_PARTITION_ID_SELF) return result_of(root_memory().lock()->withdraw(page_list(pages, call)));
    const PartitionReference partition = find(id);
    if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
    auto guarded = partition->lock();
    return result_of(root_memory().lock()->withdraw(page_list(pages, call), guarded->pool));
  };
  const RootCallResult result = withdraw();
  std::memcpy(call.output.data(), pages.data(), result.done * sizeof pages[0]);
  return result;
}

RootCallResult get_memory_balance(const RootCall& call) {
  const std::uint64_t id = call.input<hv_withdraw_memory>().partition_id;
  hv_memory_balance output{};
  if (id == HV_PARTITION_ID_SELF) {
    auto memory = root_memory().lock();
    output = {memory->pool().available(), memory->pool().used()};
  } else {
    const PartitionReference partition = find(id);
    if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
    auto guarded = partition->lock();
    output = {guarded->pool.available(), guarded->pool.used()};
  }
  call.put(output);
  return HV_STATUS_SUCCESS;
}

RootCallResult map_gpa_pages(const RootCall& call) {
  constexpr std::uint32_t kExecute = HV_MAP_GPA_KERNEL_EXECUTABLE | HV_MAP_GPA_USER_EXECUTABLE;
  constexpr std::uint32_t kKnown = HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE | kExecute | HV_MAP_GPA_LARGE_PAGE;
  const auto input = call.input<hv_map_gpa_pages>();
  const PartitionReference partition = find(input.target_partition_id);
  if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
  // There is no mapping without the right to read: leave the page unmapped for that.
  if ((input.map_flags & ~kKnown) || !(input.map_flags & HV_MAP_GPA_READABLE) || input.target_gpa_base >= kGuestPages) {
    return HV_STATUS_INVALID_PARAMETER;
  }
  const PageRights rights{.write = (input.map_flags & HV_MAP_GPA_WRITABLE) != 0,
                          .execute = (input.map_flags & kExecute) != 0};
  const PageSize size = input.map_flags & HV_MAP_GPA_LARGE_PAGE ? PageSize::k2MiB : PageSize::k4KiB;
  for (std::uint32_t i = 0; i < call.count; ++i) {
    const auto source = call.element<std::uint64_t>(i);
    if (source > kMaximumPageNumber) return {HV_STATUS_INVALID_PARAMETER, i};
    const Frame frame{source};
    hv_status status = root_memory().lock()->share(frame, size);
    if (status != HV_STATUS_SUCCESS) return {status, i};
    std::optional<Frame> retired;
    const GuestPage target{input.target_gpa_base + (std::uint64_t{call.first} + i) * pages_in(size)};
    status = partition->map(target, frame, size, rights, retired);
    if (status != HV_STATUS_SUCCESS) {
      root_memory().lock()->unshare(frame);
      return {status, i};
    }
    if (retired) {
      partition->retire();
      partition->free_table(*retired);
    }
  }
  return {HV_STATUS_SUCCESS, call.count};
}

RootCallResult unmap_gpa_pages(const RootCall& call) {
  const auto input = call.input<hv_unmap_gpa_pages>();
  const PartitionReference partition = find(input.target_partition_id);
  if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
  if (input.unmap_flags & ~HV_UNMAP_GPA_LARGE_PAGE || input.target_gpa_base >= kGuestPages) {
    return HV_STATUS_INVALID_PARAMETER;
  }
  const PageSize size = input.unmap_flags & HV_UNMAP_GPA_LARGE_PAGE ? PageSize::k2MiB : PageSize::k4KiB;
  std::array<Frame, kRepsPerEntry> frames;
  std::array<std::optional<Frame>, kRepsPerEntry> tables;
  std::uint32_t done = 0;
  hv_status status = HV_STATUS_SUCCESS;
  for (; done < call.count; ++done) {
    const GuestPage target{input.target_gpa_base + (std::uint64_t{call.first} + done) * pages_in(size)};
    const auto frame = partition->unmap(target, size, tables[done]);
    if (!frame) {
      status = frame.error();
      break;
    }
    frames[done] = *frame;
  }
  if (done == 0) return status;
  // Only when no VP can reach the pages any more may the root use their region in another way.
  partition->retire();
  for (const std::optional<Frame>& table : tables) {
    if (table) partition->free_table(*table);
  }
  auto memory = root_memory().lock();
  for (std::uint32_t i = 0; i < done; ++i) memory->unshare(frames[i]);
  return {status, done};
}

RootCallResult get_gpa_pages_access_states(const RootCall& call) {
  constexpr std::uint64_t kClear = HV_GPA_ACCESS_CLEAR_ACCESSED | HV_GPA_ACCESS_CLEAR_DIRTY;
  constexpr std::uint64_t kSet = HV_GPA_ACCESS_SET_ACCESSED | HV_GPA_ACCESS_SET_DIRTY;
  const auto input = call.input<hv_get_gpa_pages_access_states>();
  const PartitionReference partition = find(input.partition_id);
  if (!partition) return HV_STATUS_INVALID_PARTITION_ID;
  // Of each kind, the flag to clear is followed by that to set.
  const bool contradicts = (input.flags & kClear & input.flags >> 1) != 0;
  if (input.flags & ~(kClear | kSet) || contradicts || input.gpa_base >= kGuestPages)
    return HV_STATUS_INVALID_PARAMETER;
  std::uint32_t done = 0;
  hv_status status = HV_STATUS_SUCCESS;
  for (; done < call.count; ++done) {
    std::optional<Frame> table;
    const auto state = partition->change_access({input.gpa_base + call.first + done}, input.flags, table);
    if (!state) {
      status = state.error();
      break;
    }
    call.put(*state, done);
    if (table) {
      partition->retire();
      partition->free_table(*table);
    }
  }
  // A VP may go on writing through a translation that it has made before, and the processor would not set the bit again. Once for the whole
  // list: until it is through, the root has no answer.
  if ((input.flags & kClear) && (call.last || status != HV_STATUS_SUCCESS)) partition->retire();
  return {status, done};
}

}  // namespace bulkhead::hypervisor::root
