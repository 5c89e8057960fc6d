// SPDX-License-Identifier: Apache-2.0
//
// The root's view of memory and of the processor. Guest physical is system physical, in pages of 1 GiB but for
//
//   the hypervisor's memory   4 KiB pages that all show one page of zeros, read-only
//   the local APIC's page     read-only, with the rest of its 2 MiB, where nothing else is: writes exit (root/root_apic.cpp)
#include <span>

#include "hypervisor/boot/boot.hpp"
#include "hypervisor/memory/page_table.hpp"
#include "hypervisor/processor/local_apic.hpp"
#include "hypervisor/processor/start.hpp"
#include "hypervisor/root/msr_policy.hpp"
#include "hypervisor/root/port_policy.hpp"
#include "hypervisor/root/root_partition.hpp"
#include "hypervisor/svm/svm.hpp"

namespace bulkhead::hypervisor::boot {
namespace {

constexpr std::uint64_t kPagesPer1GiB = pages_in(PageSize::k1GiB);
constexpr std::uint64_t kAddressablePages = (1ull << 40) / kPageSize;

void replace(PageTable<NestedFormat>& table, std::uint64_t page, Frame frame, PageSize size) {
  const bool done =
      table.split(page, size, boot.reserve) && table.replace(page, frame, {.write = false, .execute = false}, size);
  if (!done) fail("cannot build the root's second-level table");
}

std::uint8_t* bytes(Frame frame) { return reinterpret_cast<std::uint8_t*>(machine::frame_pointer(frame)); }

}  // namespace

void build_root_table() {
  auto table = PageTable<NestedFormat>::create(boot.reserve);
  if (!table) fail("cannot build the root's second-level table");
  const std::uint64_t widths = machine::host_cpuid(0x80000008, 0).eax;
  const std::uint64_t pages = std::min(kAddressablePages, (std::uint64_t{1} << (widths & 0xff)) / kPageSize);
  for (std::uint64_t page = 0; page < pages; page += kPagesPer1GiB) {
    if (!table->map(page, Frame{page}, PageSize::k1GiB, {}, boot.reserve))
      fail("cannot build the root's second-level table");
  }
  const std::uint64_t apic_page = kApicBaseAddress / kPageSize;
  replace(*table, apic_page, Frame{apic_page}, PageSize::k2MiB);
  for (std::uint64_t index = 0; index < boot.frame_count; ++index)
    replace(*table, boot.base.number + index, boot.zero_frame, PageSize::k4KiB);
  processors::common.root_table = table->root();
}

// Much of these maps is all zeros or all ones, so they overlap. Of a port map's third page SVM reads three bits, for
// accesses that run over port FFFF (that of the root may say anything); the second half of an MSR map's second page it
// does not read at all.
//
//   page          0        1        2        3        4        5        6
//              PM1 port  zeros  few zeros   ones     ones      root's registers
//   root's ports [        |        |   ]
//   child's MSRs                   [        |        ]
//   child's ports                           [        |        |    ]
//   root's MSRs                                               [        |        ]
//
// Page 1 is also what the root sees in the place of hidden memory. The first registers of page 5 exit for the child's ports' sake.
void build_permission_maps() {
  const Frame pages = take(7);
  boot.zero_frame = pages + 1;
  root::build_root_port_map(std::span(bytes(pages), kPageSize), root::root_machine.sleep);
  std::memset(bytes(pages + 2), 0xff, 3 * kPageSize);
  root::build_child_msr_map(std::span<std::uint8_t, root::kMsrMapSize>(bytes(pages + 2), root::kMsrMapSize));
  root::build_root_msr_map(std::span<std::uint8_t, root::kMsrMapSize>(bytes(pages + 5), root::kMsrMapSize));
  bytes(pages + 5)[0] |= 7;
  svm::permissions = {pages.address(), (pages + 5).address(), (pages + 3).address(), (pages + 2).address()};
}

}  // namespace bulkhead::hypervisor::boot
