// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/memory/frame_ledger.hpp"

namespace bulkhead::hypervisor {

bool FrameLedger::is_ram(Frame first, std::uint64_t count) const {
  for (const FrameRange& range : ram_) {
    if (first < range.first) return false;
    const std::uint64_t offset = first.number - range.first.number;
    if (offset < range.count) return count <= range.count - offset;
  }
  return false;
}

bool FrameLedger::deposit(Frame frame) {
  std::uint16_t& count = counter(frame);
  if (count != 0 && !(count & kDeposited)) return false;
  // At most 512: the caller deposits a page only once.
  count = static_cast<std::uint16_t>((count | kDeposited) + 1);
  return true;
}

void FrameLedger::withdraw(Frame frame) {
  std::uint16_t& count = counter(frame);
  if (--count == kDeposited) count = 0;
}

bool FrameLedger::share(Frame frame) {
  std::uint16_t& count = counter(frame);
  if (count & kDeposited || count == kDeposited - 1) return false;
  ++count;
  return true;
}

}  // namespace bulkhead::hypervisor
