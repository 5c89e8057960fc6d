// SPDX-License-Identifier: Apache-2.0
//
// What the root's memory is used for, in regions of 2 MiB. One counter a region tells how many of its pages are deposited, or how
// many times a page of it is mapped to a child or shared as a VP's state page:
//
//   bit 15: 1 deposited, 0 shared      bits 14..0: how many
//
// A region is used in one way only at a time. So two small rules need no list of who uses which page: a deposited page is
// never mapped to a child, and a page of a child or a state page is never taken for the hypervisor.
#pragma once

#include <cstdint>
#include <span>

#include "hypervisor/hypervisor.hpp"
#include "hypervisor/memory/frame.hpp"

namespace bulkhead::hypervisor {

class FrameLedger {
 public:
  FrameLedger() = default;
  FrameLedger(std::span<const FrameRange> ram, std::span<std::uint16_t> counters) : ram_(ram), counters_(counters) {}

  /// All `count` frames from `first` are the root's RAM.
  bool is_ram(Frame first, std::uint64_t count) const;

  /// Whether a page of the frame's region is deposited. The frame is RAM.
  bool has_deposits(Frame frame) const { return counters_[frame.number / kPagesPerLargePage] & kDeposited; }

  /// One page becomes deposited, or shared. False if its region is used in the other way, or its counter is full.
  bool deposit(Frame frame);
  bool share(Frame frame);
  /// The reverse of a successful call of the same name.
  void withdraw(Frame frame);
  void unshare(Frame frame) { --counter(frame); }

 private:
  static constexpr std::uint16_t kDeposited = 0x8000;
  std::uint16_t& counter(Frame frame) { return counters_[frame.number / kPagesPerLargePage]; }

  std::span<const FrameRange> ram_;
  std::span<std::uint16_t> counters_;
};

}  // namespace bulkhead::hypervisor
