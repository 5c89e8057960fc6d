// SPDX-License-Identifier: Apache-2.0
//
// A power cut, tried in every way. RecordingFiles pass operations on to the files below them and keep one log, in a
// Recording, of those that change them; CrashStates builds from it the files that a crash could have left behind.
//
//     write write | flush | write resize zero | flush | write ...
//     \_________/           \_______________/
//      an epoch: any subset may have reached the disk, in any order, torn at any sector; of each file, what had ended
//      when the flush began is all there once the flush has ended
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "disk/file/memory_file.hpp"

namespace bulkhead::disk {

/// One change to a recorded file, or a mark that the test put between them.
struct RecordedOperation {
  enum class Kind { write, zero, resize, flush_began, flush_ended, mark };
  static constexpr std::size_t kNever = ~std::size_t{0};
  Kind kind;
  std::size_t file = 0;  // the number of the RecordingFile
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::vector<std::byte> bytes;
  /// Of a change: what stood in the log when it had ended, as an index.
  std::size_t ended = kNever;
  /// Of a flush that ended: where in the log it began. What had ended by then is durable.
  std::size_t began = 0;
  std::uint64_t mark = 0;
  bool durable = false;
};

/// What several files live through, in one order.
class Recording {
 public:
  const std::vector<RecordedOperation>& operations() const { return operations_; }
  /// Notes that the workload's step `number` begins now.
  void mark_begin(std::uint64_t number);
  /// Notes that the workload was told by now that its steps up to `number` are durable.
  void mark_durable(std::uint64_t number);

 private:
  friend class RecordingFile;
  std::size_t add(RecordedOperation operation);
  void end(std::size_t index) { operations_[index].ended = operations_.size(); }
  std::vector<RecordedOperation> operations_;
};

class RecordingFile final : public File {
 public:
  /// `number` tells the files of one recording apart: 0, 1 ...
  RecordingFile(Recording& recording, std::size_t number, File& base)
      : recording_(recording), number_(number), base_(base) {}

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
  Recording& recording_;
  std::size_t number_;
  File& base_;
};

/// The states that a crash can leave of files that were `start`, by their numbers, and then lived through `operations`.
class CrashStates {
 public:
  /// How many subsets of one epoch are tried: all of them if it has at most `exhaustive` operations; otherwise every
  /// prefix, everything but one, each one alone, and `samples` drawn ones. Each of them also torn at sectors.
  struct Effort {
    unsigned exhaustive = 6;
    unsigned samples = 8;
    std::uint64_t seed = 1;
  };
  struct Content {
    SparseBytes bytes;
    std::uint64_t size = 0;
  };
  struct State {
    std::vector<Content> files;
    /// What the workload was told is durable must be there: the last mark_durable() before the crash.
    std::uint64_t durable = 0;
    /// The last step that had begun.
    std::uint64_t begun = 0;
    std::string description;
  };

  CrashStates(std::vector<Content> start, const std::vector<RecordedOperation>& operations, Effort effort)
      : start_(std::move(start)), operations_(operations), effort_(effort) {}

  /// Calls `check` with each state until it returns false. Returns how many there were.
  std::uint64_t each(const std::function<bool(const State&)>& check) const;

 private:
  std::vector<Content> start_;
  const std::vector<RecordedOperation>& operations_;
  Effort effort_;
};

}  // namespace bulkhead::disk
