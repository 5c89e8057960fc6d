// SPDX-License-Identifier: Apache-2.0
//
// What logical processors tell each other. A sender sets bits and sends an NMI, unless one is on its way already:
//
//   sender:    post(bits) ──▶ bits set ──▶ NMI sent          receiver:   NMI ──▶ take(true)
//                                                                        or, before the NMI comes:  take(false)
//
// Bits and NMI travel apart, so a receiver that looks at the bits for another reason may take them before their NMI is
// there. It then knows that one NMI is still to come which is not the root's.
#pragma once

#include <atomic>
#include <cstdint>

namespace bulkhead::hypervisor {

inline constexpr std::uint32_t kSignalSent = 1u << 0;     // an NMI of ours is on its way
inline constexpr std::uint32_t kSignalKick = 1u << 1;     // machine::kick
inline constexpr std::uint32_t kSignalStartup = 1u << 2;  // LogicalProcessor::startup changed
inline constexpr std::uint32_t kSignalNmi = 1u << 3;      // the root sent an NMI to this processor
inline constexpr std::uint32_t kSignalStop = 1u << 4;     // panic elsewhere

class Signals {
 public:
  /// From any processor. True: the caller sends an NMI.
  bool post(std::uint32_t bits) { return !(bits_.fetch_or(bits | kSignalSent) & kSignalSent); }

  // Of the receiver.

  bool any() const { return bits_.load(std::memory_order_relaxed) != 0; }
  const std::atomic<std::uint32_t>& word() const { return bits_; }

  struct Taken {
    std::uint32_t bits;
    bool explains_nmi;  // the NMI that came was for a signal
  };
  /// `nmi`: one came just now.
  Taken take(bool nmi) {
    const std::uint32_t bits = bits_.exchange(0);
    const bool sent = bits & kSignalSent;
    const bool explains = sent || expected_;
    expected_ = !nmi && explains;
    return {bits, explains};
  }

 private:
  std::atomic<std::uint32_t> bits_{0};
  bool expected_ = false;  // bits were taken whose NMI has not come yet
};

}  // namespace bulkhead::hypervisor
