// SPDX-License-Identifier: Apache-2.0
//
// Where a controller works. It has two sides, and this is the door between them:
//
//   bus side    whoever holds bus_lock(): processors' threads that signal, the event loop. Rings, packets, completions.
//   disk side   one thread, the event loop's, without the lock. Commands, disks, io_uring.
//
// So a processor that signals waits for no disk, and a disk holds up nobody who only wants the lock.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <string_view>

namespace bulkhead::vsp::storage {

class StorageHost {
 public:
  virtual ~StorageHost() = default;

  virtual std::mutex& bus_lock() = 0;
  /// From any thread: `work` runs soon on the disk side.
  virtual void post(std::function<void()> work) = 0;
  /// From the disk side: `work` runs there, after that time.
  virtual void post_after(std::chrono::nanoseconds delay, std::function<void()> work) = 0;
  /// A clock that only goes forward.
  virtual std::chrono::nanoseconds now() = 0;
  /// From the disk side: returns when an operation of a disk has ended, or when there is none under way.
  virtual void wait_for_progress() = 0;

  /// From the disk side: the host has no room for what the guest writes to this disk. The request is kept, and tried
  /// again when the controller starts anew: the machine is to pause until there is room.
  virtual void host_is_full(std::string_view disk, std::string_view why) = 0;
};

}  // namespace bulkhead::vsp::storage
