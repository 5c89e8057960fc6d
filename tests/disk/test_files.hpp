// SPDX-License-Identifier: Apache-2.0
//
// What the disk tests stand on: files in memory that outlive the disk that uses them, and files that finish their
// operations late and out of order.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "disk/disk.hpp"
#include "disk/file/memory_file.hpp"
#include "disk/task.hpp"

namespace bulkhead::disk {

/// Runs a task that never has to wait.
template <typename T>
T now(Task<T> task) {
  return run(std::move(task), [] {
    FAIL() << "the task waits for something that never comes";
    std::abort();
  });
}

/// For EXPECT_TRUE(succeeds(...)).
template <typename T>
::testing::AssertionResult succeeds(const Result<T>& result) {
  return result ? ::testing::AssertionSuccess() : ::testing::AssertionFailure() << result.error().message();
}

/// A disk owns its file; this one passes everything on to a file that the test keeps.
class BorrowedFile : public File {
 public:
  explicit BorrowedFile(File& file) : file_(file) {}
  const std::string& name() const override { return file_.name(); }
  bool writable() const override { return file_.writable(); }
  std::uint64_t size() const override { return file_.size(); }
  Task<Result<>> read(std::uint64_t offset, Buffers buffers) override { return file_.read(offset, buffers); }
  Task<Result<>> write(std::uint64_t offset, Buffers buffers) override { return file_.write(offset, buffers); }
  Task<Result<>> flush() override { return file_.flush(); }
  Task<Result<>> begin_flush(std::uint64_t offset, std::uint64_t length) override {
    return file_.begin_flush(offset, length);
  }
  Task<Result<>> zero(std::uint64_t offset, std::uint64_t length, Zeroing zeroing) override {
    return file_.zero(offset, length, zeroing);
  }
  Task<Result<>> resize(std::uint64_t size) override { return file_.resize(size); }
  Task<Result<Extent>> query(std::uint64_t offset, std::uint64_t length) override {
    return file_.query(offset, length);
  }

 private:
  File& file_;
};

/// Operations wait until step() lets a random one of them happen.
class DelayedFile final : public File {
 public:
  DelayedFile(File& file, std::uint64_t seed) : file_(file), random_(seed) {}

  /// False if nothing waits.
  bool step() {
    if (waiting_.empty()) {
      return false;
    }
    std::swap(waiting_[random_() % waiting_.size()], waiting_.back());
    auto next = waiting_.back();
    waiting_.pop_back();
    next.resume();
    return true;
  }

  const std::string& name() const override { return file_.name(); }
  bool writable() const override { return file_.writable(); }
  std::uint64_t size() const override { return file_.size(); }
  Task<Result<>> read(std::uint64_t offset, Buffers buffers) override {
    co_await Turn{*this};
    co_return co_await file_.read(offset, buffers);
  }
  Task<Result<>> write(std::uint64_t offset, Buffers buffers) override {
    co_await Turn{*this};
    auto written = co_await file_.write(offset, buffers);
    co_await Turn{*this};
    co_return written;
  }
  Task<Result<>> flush() override {
    co_await Turn{*this};
    co_return co_await file_.flush();
  }
  Task<Result<>> zero(std::uint64_t offset, std::uint64_t length, Zeroing zeroing) override {
    co_await Turn{*this};
    co_return co_await file_.zero(offset, length, zeroing);
  }
  Task<Result<>> resize(std::uint64_t size) override { return file_.resize(size); }
  Task<Result<Extent>> query(std::uint64_t offset, std::uint64_t length) override {
    co_await Turn{*this};
    co_return co_await file_.query(offset, length);
  }

 private:
  struct Turn {
    DelayedFile& file;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> waiter) const { file.waiting_.push_back(waiter); }
    void await_resume() const {}
  };

  File& file_;
  std::mt19937_64 random_;
  std::vector<std::coroutine_handle<>> waiting_;
};

/// A file on a disk that is soon full: `room` is how many more changes it takes.
class FillingFile final : public File {
 public:
  FillingFile(File& file, std::uint64_t& room) : file_(file), room_(room) {}
  const std::string& name() const override { return file_.name(); }
  bool writable() const override { return file_.writable(); }
  std::uint64_t size() const override { return file_.size(); }
  Task<Result<>> read(std::uint64_t offset, Buffers buffers) override { return file_.read(offset, buffers); }
  Task<Result<>> write(std::uint64_t offset, Buffers buffers) override {
    return take() ? file_.write(offset, buffers) : full();
  }
  Task<Result<>> flush() override { return file_.flush(); }
  Task<Result<>> zero(std::uint64_t offset, std::uint64_t length, Zeroing zeroing) override {
    return take() ? file_.zero(offset, length, zeroing) : full();
  }
  Task<Result<>> resize(std::uint64_t size) override { return take() ? file_.resize(size) : full(); }
  Task<Result<Extent>> query(std::uint64_t offset, std::uint64_t length) override {
    return file_.query(offset, length);
  }

 private:
  bool take() {
    if (room_ == 0) {
      return false;
    }
    --room_;
    return true;
  }
  Task<Result<>> full() { co_return fail("cannot write to '" + file_.name() + "': No space left on device"); }

  File& file_;
  std::uint64_t& room_;
};

inline std::vector<std::byte> pattern(std::uint64_t length, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(length);
  for (std::size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    const std::uint64_t word = random() | 1;
    std::memcpy(&bytes[i], &word, 8);
  }
  return bytes;
}

inline std::vector<std::byte> content(Disk& disk, std::uint64_t offset, std::uint64_t length) {
  std::vector<std::byte> bytes(length, std::byte{0xcc});
  EXPECT_TRUE(succeeds(now(read_bytes(disk, offset, bytes))));
  return bytes;
}

inline std::vector<std::byte> content(Disk& disk) { return content(disk, 0, disk.properties().size); }

}  // namespace bulkhead::disk
