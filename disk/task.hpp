// SPDX-License-Identifier: Apache-2.0
//
// Task<T>: one piece of asynchronous work, written from top to bottom.
//
// A function that has to wait for a file returns Task<Result<T>> and uses co_await. A task does nothing until somebody
// awaits it or hands it to start(). One that never has to wait (its block was in the cache, the file is in memory)
// finishes inside the call, without a trip through an event loop and without growing the stack of a loop around it.
//
// Tasks know no executor: whatever completes an operation (disk::Ring for real files) resumes the task that waits for
// it, on the thread that polls. All tasks of one disk run on one thread, so what happens between two co_awaits is
// atomic; the formats rely on that instead of locks. A started task must run to its end: it may not be destroyed
// while it waits.
#pragma once

#include <coroutine>
#include <deque>
#include <exception>
#include <optional>
#include <utility>

namespace bulkhead::disk {

template <typename T = void>
class Task;

namespace task_detail {

/// Resumes whoever awaited, if the task had to suspend; otherwise the awaiting side sees that it is done and goes on.
struct FinalAwaiter {
  bool await_ready() const noexcept { return false; }
  template <typename Promise>
  void await_suspend(std::coroutine_handle<Promise> finished) const noexcept {
    if (auto continuation = finished.promise().continuation) {
      continuation.resume();
    }
  }
  void await_resume() const noexcept {}
};

struct PromiseBase {
  std::coroutine_handle<> continuation;
  std::suspend_always initial_suspend() const noexcept { return {}; }
  FinalAwaiter final_suspend() const noexcept { return {}; }
  [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
};

template <typename T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object() noexcept;
  template <typename U>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
  T take() { return std::move(*value); }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object() noexcept;
  void return_void() const noexcept {}
  void take() const noexcept {}
};

}  // namespace task_detail

template <typename T>
class [[nodiscard]] Task {
 public:
  using promise_type = task_detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (handle_) {
      handle_.destroy();
    }
  }

  struct Awaiter {
    Handle handle;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> awaiting) const {
      handle.resume();
      if (handle.done()) {
        return false;
      }
      handle.promise().continuation = awaiting;
      return true;
    }
    T await_resume() const { return handle.promise().take(); }
  };
  Awaiter operator co_await() && { return Awaiter{handle_}; }

 private:
  Handle handle_;
};

template <typename T>
Task<T> task_detail::Promise<T>::get_return_object() noexcept {
  return Task<T>(Task<T>::Handle::from_promise(*this));
}
inline Task<void> task_detail::Promise<void>::get_return_object() noexcept {
  return Task<void>(Task<void>::Handle::from_promise(*this));
}

/// A coroutine that nobody awaits; its frame goes away by itself.
struct Detached {
  struct promise_type {
    Detached get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
  };
};

/// Starts `task`; `completion` is called with its result when it ends, perhaps before start() returns.
template <typename T, typename Completion>
Detached start(Task<T> task, Completion completion) {
  completion(co_await std::move(task));
}

/// Runs `task` to its end on this thread. `wait_for_progress` is called as long as it is not done (Ring::wait).
template <typename T, typename Wait>
T run(Task<T> task, Wait wait_for_progress) {
  std::optional<T> result;
  start(std::move(task), [&result](T value) { result.emplace(std::move(value)); });
  while (!result) {
    wait_for_progress();
  }
  return std::move(*result);
}

/// Resumes `waiter`: now, or if this thread is already resuming somebody, after that. So a long queue of waiters that
/// wake one another does not become a deep stack.
inline void wake(std::coroutine_handle<> waiter) {
  thread_local std::deque<std::coroutine_handle<>> ready;
  thread_local bool draining = false;
  ready.push_back(waiter);
  if (draining) {
    return;
  }
  draining = true;
  while (!ready.empty()) {
    auto next = ready.front();
    ready.pop_front();
    next.resume();
  }
  draining = false;
}

}  // namespace bulkhead::disk
