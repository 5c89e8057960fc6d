// SPDX-License-Identifier: Apache-2.0
//
// What tasks of one thread use to wait for one another: Mutex, Gate (readers and writers of a numbered thing) and
// TaskGroup (several tasks at once).
#pragma once

#include <coroutine>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "disk/task.hpp"
#include "error/error.hpp"

namespace bulkhead::disk {

/// `auto held = co_await gate.share(block);` or `.own(block)`: any number of tasks share a number, or one owns it.
/// First come, first served, so a stream of readers cannot starve an owner.
class Gate {
 public:
  enum class Mode { shared, exclusive };

  class [[nodiscard]] Hold {
   public:
    Hold(Gate& gate, std::uint64_t number, Mode mode) : gate_(&gate), number_(number), mode_(mode) {}
    Hold(Hold&& other) noexcept
        : gate_(std::exchange(other.gate_, nullptr)), number_(other.number_), mode_(other.mode_) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold() {
      if (gate_ != nullptr) {
        gate_->release(number_, mode_);
      }
    }

   private:
    Gate* gate_;
    std::uint64_t number_;
    Mode mode_;
  };

  struct Awaiter {
    Gate* gate;
    std::uint64_t number;
    Mode mode;
    bool await_ready() const { return gate->try_enter(number, mode); }
    void await_suspend(std::coroutine_handle<> waiter) const {
      gate->entries_[number].waiters.push_back({waiter, mode});
    }
    Hold await_resume() const { return Hold(*gate, number, mode); }
  };

  Awaiter share(std::uint64_t number) { return {this, number, Mode::shared}; }
  Awaiter own(std::uint64_t number) { return {this, number, Mode::exclusive}; }

 private:
  struct Waiter {
    std::coroutine_handle<> handle;
    Mode mode;
  };
  struct Entry {
    std::uint32_t sharers = 0;
    bool owned = false;
    std::vector<Waiter> waiters;  // mostly empty, and then costs nothing
    bool admits(Mode mode) const { return mode == Mode::shared ? !owned : !owned && sharers == 0; }
    void admit(Mode mode) {
      if (mode == Mode::shared) {
        ++sharers;
      } else {
        owned = true;
      }
    }
  };

  bool try_enter(std::uint64_t number, Mode mode) {
    auto& entry = entries_[number];
    if (!entry.waiters.empty() || !entry.admits(mode)) {
      return false;
    }
    entry.admit(mode);
    return true;
  }

  void release(std::uint64_t number, Mode mode) {
    auto found = entries_.find(number);
    auto& entry = found->second;
    if (mode == Mode::shared) {
      --entry.sharers;
    } else {
      entry.owned = false;
    }
    auto next = entry.waiters.begin();
    while (next != entry.waiters.end() && entry.admits(next->mode)) {
      entry.admit(next->mode);
      ++next;
    }
    const std::vector<Waiter> admitted(entry.waiters.begin(), next);
    entry.waiters.erase(entry.waiters.begin(), next);
    if (entry.sharers == 0 && !entry.owned && entry.waiters.empty()) {
      entries_.erase(found);
    }
    for (const auto& waiter : admitted) {
      wake(waiter.handle);
    }
  }

  std::unordered_map<std::uint64_t, Entry> entries_;
};

/// `auto held = co_await mutex.lock();`
class Mutex {
 public:
  Gate::Awaiter lock() { return gate_.own(0); }

 private:
  Gate gate_;
};

/// Runs tasks side by side: add() starts one, wait() ends when all have ended and gives the first error.
/// wait() must have been awaited before the group goes away; when it gave no error, more may be added and awaited.
class TaskGroup {
 public:
  TaskGroup() = default;
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  void add(Task<Result<>> task) {
    ++running_;
    start(std::move(task), [this](Result<> result) {
      if (!result && result_) {
        result_ = std::move(result);
      }
      if (--running_ == 0 && waiter_) {
        wake(std::exchange(waiter_, nullptr));
      }
    });
  }

  bool failed() const { return !result_.has_value(); }

  Task<Result<>> wait() {
    co_await Idle{this};
    co_return std::move(result_);
  }

 private:
  struct Idle {
    TaskGroup* group;
    bool await_ready() const { return group->running_ == 0; }
    void await_suspend(std::coroutine_handle<> waiter) const { group->waiter_ = waiter; }
    void await_resume() const {}
  };

  unsigned running_ = 0;
  std::coroutine_handle<> waiter_;
  Result<> result_;
};

}  // namespace bulkhead::disk
