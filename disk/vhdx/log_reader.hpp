// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <vector>

#include "disk/file/file.hpp"
#include "disk/vhdx/header.hpp"
#include "disk/vhdx/layout.hpp"

namespace bulkhead::disk::vhdx {

/// Finds what must be replayed in the log of an image that was not closed, and replays it ([MS-VHDX] 2.3.3).
///
/// The log is a ring of entries. Entries that follow one another with consecutive sequence numbers form a sequence; the
/// active one is the one with the highest number whose newest entry names one of the sequence's own as its tail. Each
/// sector of the log is part of at most one candidate, so the search takes time linear in the log's length.
class LogReader {
 public:
  LogReader(File& file, const Header& header)
      : file_(file), guid_(header.log_guid), offset_(header.log_offset), length_(header.log_length) {}

  /// Applies the active sequence to `target`: the file itself, or an overlay of a read-only file. Fails if the log
  /// holds no valid sequence or the file is shorter than the log knows it was. Does not flush.
  Task<Result<>> replay(File& target);

 private:
  struct Entry {
    std::uint64_t position;
    LogEntryHeader header;
    std::vector<std::byte> bytes;
  };
  struct Place {
    std::uint64_t position;
    std::uint64_t length;
    std::uint64_t sequence;
    std::uint64_t tail;
  };
  using Sequence = std::vector<Place>;

  Task<Result<Sequence>> find_active();
  Task<Result<std::optional<Entry>>> load_entry(std::uint64_t position);
  Task<Result<>> append_sectors(Entry& entry, std::uint64_t count);
  Task<Result<>> apply(const Entry& entry, File& target);
  bool is_plausible(const LogEntryHeader& header) const;
  static Sequence from_tail(Sequence sequence);

  File& file_;
  Guid guid_;
  std::uint64_t offset_;
  std::uint64_t length_;
};

}  // namespace bulkhead::disk::vhdx
