// SPDX-License-Identifier: Apache-2.0
//
// A lock that owns what it protects: SpinlockProtected<T> lets nobody at the T but through lock(), and the name that lock()
// returns is the scope in which it is held. Fair (a ticket for each comer), so that no logical processor starves.
//
// Order: partition table, then partition, then root memory. machine::kick may be called under any of them; nobody waits
// for another logical processor to do something while holding one.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace bulkhead::hypervisor {

template <typename T>
class SpinlockProtected {
 public:
  template <typename... Arguments>
  constexpr explicit SpinlockProtected(Arguments&&... arguments) : value_(std::forward<Arguments>(arguments)...) {}
  SpinlockProtected(const SpinlockProtected&) = delete;
  SpinlockProtected& operator=(const SpinlockProtected&) = delete;

  class [[nodiscard]] Locked {
   public:
    explicit Locked(SpinlockProtected& owner) : owner_(owner) { owner_.acquire(); }
    ~Locked() { owner_.release(); }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;

    T* operator->() { return &owner_.value_; }
    T& operator*() { return owner_.value_; }

   private:
    SpinlockProtected& owner_;
  };

  Locked lock() { return Locked(*this); }

 private:
  void acquire() {
    const std::uint32_t ticket = next_.fetch_add(1, std::memory_order_relaxed);
    while (serving_.load(std::memory_order_acquire) != ticket) __builtin_ia32_pause();
  }
  void release() { serving_.store(serving_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

  std::atomic<std::uint32_t> next_{0};
  std::atomic<std::uint32_t> serving_{0};
  T value_;
};

}  // namespace bulkhead::hypervisor
