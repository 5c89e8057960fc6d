// SPDX-License-Identifier: Apache-2.0
//
// The hypervisor's own page tables: layout.h. Text is not writable, data not executable, and the direct map neither
// executable nor, of course, the only way to the image's frames: it covers all memory.
#include <algorithm>

#include "hypervisor/boot/boot.hpp"
#include "hypervisor/boot/layout.h"
#include "hypervisor/memory/page_table.hpp"
#include "hypervisor/processor/start.hpp"

namespace bulkhead::hypervisor::boot {
namespace {

constexpr std::uint64_t kGiB = 1ull << 30;
constexpr std::uint64_t kFourGiB = 4 * kGiB;
constexpr std::uint64_t k512GiB = 512 * kGiB;
constexpr std::uint64_t kPagesPer1GiB = pages_in(PageSize::k1GiB);

/// RAM, and at least the 4 GiB in which the local APIC is.
std::uint64_t end_of_direct_map() { return std::max(boot.information.memory.end_of_memory(), kFourGiB); }

std::uint64_t page_of(const std::byte* address) { return reinterpret_cast<std::uint64_t>(address) / kPageSize; }

void map(PageTable<HostFormat>& table, std::uint64_t page, Frame frame, PageSize size, PageRights rights) {
  if (!table.map(page, frame, size, rights, boot.reserve)) fail("cannot build the hypervisor's page tables");
}

PageRights rights_of(std::uint64_t page) {
  if (page < page_of(rodata_start)) return {.write = false, .execute = true};
  if (page < page_of(data_start)) return {.write = false, .execute = false};
  if (page < page_of(resident_end)) return {.write = true, .execute = false};
  return {.write = true, .execute = true};  // this folder's code and data, for as long as it runs
}

}  // namespace

std::uint64_t frames_for_tables() {
  const std::uint64_t host = 1 + (BULKHEAD_DIRECT_MAP + end_of_direct_map() + k512GiB - 1) / k512GiB + 2;
  constexpr std::uint64_t kAddressable = 1ull << 40;
  const std::uint64_t second_level = 1 + kAddressable / k512GiB + 1 + 2;
  constexpr std::uint64_t kPermissionMaps = 7;
  return host + second_level + kPermissionMaps;
}

void move_to_reserve() {
  const std::uint64_t image_pages = page_of(resident_end) - page_of(image_start);
  const Frame image = take(image_pages);
  auto table = PageTable<HostFormat>::create(boot.reserve);
  if (!table) fail("cannot build the hypervisor's page tables");
  for (std::uint64_t page = 0; page * kPageSize < end_of_direct_map(); page += kPagesPer1GiB) {
    map(*table, BULKHEAD_DIRECT_MAP / kPageSize + page, Frame{page}, PageSize::k1GiB,
        {.write = true, .execute = false});
  }
  const Frame loaded = Frame::at(BULKHEAD_LOAD_BASE);
  for (std::uint64_t page = page_of(image_start); page < page_of(image_end); ++page) {
    const std::uint64_t offset = page - page_of(image_start);
    map(*table, page, offset < image_pages ? image + offset : loaded + offset, PageSize::k4KiB, rights_of(page));
  }
  processors::common.host_table = table->root();

  // Nothing may be written to the image between the copy and the switch. The stack is in this folder's part, which stays.
  void* to = machine::frame_pointer(image);
  const void* from = image_start;
  std::uint64_t size = image_pages * kPageSize;
  asm volatile("rep movsb; mov %[table], %%cr3"
               : "+D"(to), "+S"(from), "+c"(size)
               : [table] "r"(processors::common.host_table.address())
               : "memory");
}

}  // namespace bulkhead::hypervisor::boot
