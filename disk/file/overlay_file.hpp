// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>

#include "disk/file/memory_file.hpp"

namespace bulkhead::disk {

/// Another file, which is only read, with changes that live in memory: how the log of a read-only image is replayed.
/// Changes are whole 4 KiB pages. More than `limit` bytes of changes is an error, so a hostile log cannot fill memory;
/// a zeroed range costs nothing however long it is.
class OverlayFile final : public File {
 public:
  /// `base` must live as long as the overlay.
  OverlayFile(File& base, std::uint64_t limit) : base_(base), limit_(limit), size_(base.size()) {}

  const std::string& name() const override { return base_.name(); }
  bool writable() const override { return false; }
  std::uint64_t size() const override { return size_; }
  Task<Result<>> read(std::uint64_t offset, Buffers buffers) override;
  Task<Result<>> write(std::uint64_t offset, Buffers buffers) override;
  Task<Result<>> flush() override;
  Task<Result<>> zero(std::uint64_t offset, std::uint64_t length, Zeroing zeroing) override;
  Task<Result<>> resize(std::uint64_t size) override;
  Task<Result<Extent>> query(std::uint64_t offset, std::uint64_t length) override;

 private:
  enum class Kind { pages, zeros };
  struct Range {
    std::uint64_t end;
    Kind kind;
  };
  /// Makes [start, end) be of one kind, whatever it was.
  void set(std::uint64_t start, std::uint64_t end, Kind kind);
  /// The range that covers `offset`, or the distance to the next one.
  struct Place {
    bool changed;
    Kind kind;
    std::uint64_t end;
  };
  Place place(std::uint64_t offset) const;

  File& base_;
  std::uint64_t limit_;
  std::uint64_t size_;
  SparseBytes changes_;
  std::map<std::uint64_t, Range> ranges_;
};

}  // namespace bulkhead::disk
