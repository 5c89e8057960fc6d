// SPDX-License-Identifier: Apache-2.0
//
// What other processors leave for a VP: interrupts, NMI, INIT, SIPI. Anybody may post at any time; the logical processor
// that runs the VP collects before it enters the guest.
//
//   poster:  1. sets the bits   2. `attention` 0 → 1? then wake or kick the VP
//   owner:   1. `attention` := 0   2. takes the bits
//
// The owner clears `attention` before it looks, so what is posted while it looks is noticed once more, and never lost.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "hypervisor/apic/interrupt_request.hpp"

namespace bulkhead::hypervisor {

class Mailbox {
 public:
  /// True if the owner had nothing to attend to before: tell it.
  bool post(const InterruptRequest& request) {
    const std::uint64_t bit = 1ull << (request.vector % 64);
    switch (request.mode) {
      case DeliveryMode::Fixed:
      case DeliveryMode::LowestPriority:
        if (request.level) level_[request.vector / 64].fetch_or(bit);
        fixed_[request.vector / 64].fetch_or(bit);
        break;
      case DeliveryMode::Nmi: events_.fetch_or(kNmi); break;
      case DeliveryMode::Init:
        startup_.store(0);  // a SIPI before this INIT has lost its meaning
        events_.fetch_or(kInit);
        break;
      case DeliveryMode::StartUp: startup_.store(kVectorValid | request.vector); break;
      case DeliveryMode::ExtInt: external_.store(kVectorValid | request.vector); break;
      default: return false;
    }
    return !attention_.exchange(true);
  }
  /// Something other than an interrupt needs the owner's attention.
  bool call() { return !attention_.exchange(true); }

  bool needs_attention() const { return attention_.load(std::memory_order_relaxed); }

  struct Collected {
    bool nmi = false;
    bool init = false;
    std::optional<std::uint8_t> startup = {};   // its vector
    std::optional<std::uint8_t> external = {};  // the same
  };

  /// `interrupt(vector, level)` for each fixed one.
  template <typename Interrupt>
  Collected collect(Interrupt&& interrupt) {
    attention_.store(false);
    const std::uint32_t events = events_.load() ? events_.exchange(0) : 0;
    Collected result{.nmi = (events & kNmi) != 0, .init = (events & kInit) != 0};
    result.startup = take(startup_);
    result.external = take(external_);
    for (unsigned word = 0; word < 4; ++word) {
      if (!fixed_[word].load()) continue;
      std::uint64_t bits = fixed_[word].exchange(0);
      const std::uint64_t level = level_[word].fetch_and(~bits);
      for (; bits; bits &= bits - 1) {
        const auto bit = static_cast<unsigned>(__builtin_ctzll(bits));
        interrupt(static_cast<std::uint8_t>(word * 64 + bit), (level >> bit & 1) != 0);
      }
    }
    return result;
  }

 private:
  static constexpr std::uint32_t kNmi = 1, kInit = 2;
  static constexpr std::uint32_t kVectorValid = 0x100;

  static std::optional<std::uint8_t> take(std::atomic<std::uint32_t>& vector) {
    const std::uint32_t value = vector.load() ? vector.exchange(0) : 0;
    return value ? std::optional(static_cast<std::uint8_t>(value)) : std::nullopt;
  }

  std::atomic<bool> attention_{false};
  std::atomic<std::uint32_t> events_{0};
  std::atomic<std::uint32_t> startup_{0};
  std::atomic<std::uint32_t> external_{0};
  std::array<std::atomic<std::uint64_t>, 4> fixed_{};
  std::array<std::atomic<std::uint64_t>, 4> level_{};
};

}  // namespace bulkhead::hypervisor
