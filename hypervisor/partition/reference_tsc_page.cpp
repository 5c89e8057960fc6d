// SPDX-License-Identifier: Apache-2.0
//
// The partition's reference TSC page: from it a guest reckons the reference time out of its own time stamp counter, without an exit.
// TLFS, "Partition Reference Time Enlightenment". Like the hypercall page, it is written into the guest's own memory.
//
//   time = (RDTSC * scale >> 64) + offset        while sequence is not 0, and the same before and after
#include <atomic>
#include <optional>

#include "hypervisor/machine.hpp"
#include "hypervisor/partition/partition.hpp"
#include "hypervisor/vp/virtual_processor.hpp"

namespace bulkhead::hypervisor {
namespace {

struct ReferenceTscPage {
  std::uint32_t sequence;
  std::uint32_t reserved;
  std::uint64_t scale;
  std::int64_t offset;
};

constexpr std::uint64_t kEnable = 1;
constexpr std::uint32_t kInvalid = 0;
constexpr std::uint32_t kFormerlyInvalid = 0xffffffff;  // older guests take it for another invalid one

/// Of all VPs; nothing: they differ, or there are none.
std::optional<std::int64_t> common_tsc_offset(const Partition::Guarded& guarded) {
  std::optional<std::int64_t> common;
  for (const VirtualProcessor* vp : guarded.vps) {
    if (!vp) continue;
    if (common && *common != vp->tsc_offset()) return std::nullopt;
    common = vp->tsc_offset();
  }
  return common;
}

std::uint32_t next_sequence(std::uint32_t sequence) {
  ++sequence;
  return sequence == kFormerlyInvalid || sequence == kInvalid ? 1 : sequence;
}

}  // namespace

void Partition::refresh_reference_tsc(Guarded& guarded) {
  const std::uint64_t place = guest_interface_.reference_tsc.load();
  if (!(place & kEnable) || guarded.state != PartitionState::Active) return;
  // Nothing there: the guest cannot read the page either.
  std::byte* memory = page_to_write(GuestPage::at(place));
  if (!memory) return;
  auto* page = reinterpret_cast<ReferenceTscPage*>(memory);
  // Others read meanwhile: what they read is of one piece if the sequence is the same before and after.
  const std::atomic_ref sequence(page->sequence);
  sequence.store(kInvalid);

  const std::optional<std::int64_t> tsc_offset = common_tsc_offset(guarded);
  if (!tsc_offset || configuration_.reference_time.frozen()) return;
  const std::uint64_t now = machine::tsc();
  const std::uint64_t counter = now + static_cast<std::uint64_t>(*tsc_offset);
  if (counter >> 63) return;  // it may wrap around, which the formula does not allow for
  const ReferenceTime::Line line = configuration_.reference_time.line(now, counter);
  std::atomic_ref(page->scale).store(line.scale);
  std::atomic_ref(page->offset).store(line.offset);
  guarded.reference_tsc_sequence = next_sequence(guarded.reference_tsc_sequence);
  sequence.store(guarded.reference_tsc_sequence);
}

}  // namespace bulkhead::hypervisor
