// SPDX-License-Identifier: Apache-2.0
//
// A power cut, tried in every way. RecordingFile passes operations on to the file below it and keeps a log of those
// that change it; CrashStates builds from such a log the files that a crash could have left behind.
//
//     write write | flush | write resize zero | flush | write ...
//     \_________/           \_______________/
//      an epoch: any subset may have reached the disk, in any order, torn at any sector; all of it once the flush
//      after it has ended
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "disk/file/memory_file.hpp"

namespace bulkhead::disk {

/// One change to a recorded file, or a mark that the test put between them.
struct RecordedOperation {
  enum class Kind { write, zero, resize, flush, mark };
  Kind kind;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::vector<std::byte> bytes;
  /// For a flush: what had ended when it began (an index into the log), which is what it makes durable.
  std::size_t covers = 0;
  std::uint64_t mark = 0;
  bool durable = false;
};

class RecordingFile final : public File {
 public:
  explicit RecordingFile(MemoryFile& base) : base_(base) {}

  const std::vector<RecordedOperation>& operations() const { return operations_; }
  /// Notes in the log that the workload's step `number` begins now.
  void mark_begin(std::uint64_t number);
  /// Notes in the log that the workload was told by now that its steps up to `number` are durable.
  void mark_durable(std::uint64_t number);

  const std::string& name() const override { return base_.name(); }
  bool writable() const override { return true; }
  std::uint64_t size() const override { return base_.size(); }
  Task<Result<>> read(std::uint64_t offset, Buffers buffers) override { return base_.read(offset, buffers); }
  Task<Result<>> write(std::uint64_t offset, Buffers buffers) override;
  Task<Result<>> flush() override;
  Task<Result<>> zero(std::uint64_t offset, std::uint64_t length, Zeroing zeroing) override;
  Task<Result<>> resize(std::uint64_t size) override;
  Task<Result<Extent>> query(std::uint64_t offset, std::uint64_t length) override {
    return base_.query(offset, length);
  }

 private:
  MemoryFile& base_;
  std::vector<RecordedOperation> operations_;
};

/// The states a crash can leave of a file that was `start` and then lived through `operations`.
class CrashStates {
 public:
  /// How many subsets of one epoch are tried: all of them if it has at most `exhaustive` operations; otherwise every
  /// prefix, everything but one, each one alone, and `samples` drawn ones. Each of them also torn at sectors.
  struct Effort {
    unsigned exhaustive = 6;
    unsigned samples = 8;
    std::uint64_t seed = 1;
  };
  struct State {
    SparseBytes bytes;
    std::uint64_t size;
    /// What the workload was told is durable must be there: the last mark_durable() before the crash.
    std::uint64_t durable;
    /// The last step that had begun.
    std::uint64_t begun;
    std::string description;
  };

  CrashStates(SparseBytes start, std::uint64_t size, const std::vector<RecordedOperation>& operations, Effort effort)
      : start_(std::move(start)), size_(size), operations_(operations), effort_(effort) {}

  /// Calls `check` with each state until it returns false. Returns how many there were.
  std::uint64_t each(const std::function<bool(const State&)>& check) const;

 private:
  SparseBytes start_;
  std::uint64_t size_;
  const std::vector<RecordedOperation>& operations_;
  Effort effort_;
};

}  // namespace bulkhead::disk
