// SPDX-License-Identifier: Apache-2.0
//
// What the formats stand on: one file of bytes. Implementations:
//
//   HostFile       a file or block device of the host, through io_uring      (host_file.hpp)
//   MemoryFile     sparse memory: tests, fuzzing                             (memory_file.hpp)
//   OverlayFile    another file that is only read, with changes in memory    (overlay_file.hpp)
//   RecordingFile  another file, and a log of everything done to it          (recording_file.hpp)
//
// Durability is the contract that crash safety rests on. What write(), zero() and resize() did may be lost or kept
// after a crash, each 512-byte sector by itself and in any order, until a flush() that began after they ended has
// ended.
#pragma once

#include <cstdint>
#include <string>

#include "disk/buffers.hpp"
#include "disk/task.hpp"
#include "error/error.hpp"

namespace bulkhead::disk {

class File {
 public:
  /// A run of bytes with something stored for it, or a hole that reads as zeros and takes no space.
  struct Extent {
    std::uint64_t length;
    bool hole;
  };
  enum class Zeroing { give_space_back, keep_space };

  virtual ~File() = default;

  /// What to call the file in an error.
  virtual const std::string& name() const = 0;
  virtual bool writable() const = 0;
  /// Bytes; as of the operations that have ended.
  virtual std::uint64_t size() const = 0;

  /// Fills `buffers` from `offset` on. Bytes past the end of the file are zero.
  virtual Task<Result<>> read(std::uint64_t offset, Buffers buffers) = 0;
  /// Grows the file if it has to.
  virtual Task<Result<>> write(std::uint64_t offset, Buffers buffers) = 0;
  virtual Task<Result<>> flush() = 0;
  /// What was written there may start on its way to the disk, so that a flush has less to wait for. It promises nothing: errors are
  /// the flush's.
  virtual Task<Result<>> begin_flush(std::uint64_t /*offset*/, std::uint64_t /*length*/) { co_return Result<>(); }
  /// Makes [offset, offset + length) read as zeros. Does not change the file's size.
  virtual Task<Result<>> zero(std::uint64_t offset, std::uint64_t length, Zeroing zeroing) = 0;
  /// New bytes read as zeros and take no space.
  virtual Task<Result<>> resize(std::uint64_t size) = 0;
  /// The run that begins at `offset`, at most `length` long; past the end of the file is a hole.
  virtual Task<Result<Extent>> query(std::uint64_t offset, std::uint64_t length) = 0;
};

/// One contiguous read or write.
inline Task<Result<>> read_bytes(File& file, std::uint64_t offset, std::span<std::byte> bytes) {
  const iovec whole = piece(bytes);
  co_return co_await file.read(offset, Buffers(&whole, 1));
}
inline Task<Result<>> write_bytes(File& file, std::uint64_t offset, std::span<const std::byte> bytes) {
  const iovec whole = piece(bytes);
  co_return co_await file.write(offset, Buffers(&whole, 1));
}

}  // namespace bulkhead::disk
