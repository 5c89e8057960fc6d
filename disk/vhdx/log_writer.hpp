// SPDX-License-Identifier: Apache-2.0
//
// How the tables of a VHDX change so that no crash can tear them.
//
//     dirty page --commit--> log entry --flush--> durable --(log half full)--> written home --flush--> log space is
//     free
//
// A commit costs one flush, the same one that makes the user's data durable: nothing in the log refers to data that
// would have to be durable first, unless the disk says so (a barrier: a sector bitmap must not say "mine" of sectors
// that were never written). Pages are written home lazily and ride on the flush of a later commit.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "disk/page_cache.hpp"
#include "disk/vhdx/header.hpp"

namespace bulkhead::disk::vhdx {

class LogWriter {
 public:
  LogWriter(File& file, HeaderSection& headers, PageCache& pages) : file_(file), headers_(headers), pages_(pages) {}

  /// Makes all dirty pages and everything written to the file durable. `barrier`: first flush the data that the
  /// dirty pages refer to.
  Task<Result<>> commit(bool barrier);
  /// Writes all pages home as the log has them, so that the log could be thrown away. Nothing may be committing.
  Task<Result<>> write_home();
  /// After write_home(): marks the log as empty in the header.
  Task<Result<>> close();

 private:
  struct Logged {
    std::shared_ptr<std::vector<std::byte>> content;
    std::uint64_t sequence;  // of the newest entry that has it
    std::uint32_t pins;
  };
  struct Extent {
    std::uint64_t position;
    std::uint64_t sequence;
  };

  Task<Result<>> begin();
  Task<Result<>> flush();
  Task<Result<>> make_room();
  Task<Result<>> append(std::span<const PageCache::Taken> taken);
  Task<Result<>> write_at(std::uint64_t position, std::span<const std::byte> bytes);
  Task<Result<>> write_logged_home();
  std::vector<std::byte> build_entry(std::span<const PageCache::Taken> taken, std::uint64_t tail) const;
  std::uint64_t log_length() const { return headers_.current().log_length; }
  void free_entries_before(std::uint64_t sequence);

  File& file_;
  HeaderSection& headers_;
  PageCache& pages_;
  bool begun_ = false;
  Guid guid_;
  std::uint64_t next_sequence_ = 1;
  std::uint64_t head_ = 0;  // where the next entry goes
  std::uint64_t used_ = 0;  // from the tail that the newest durable entry names to the head
  std::uint64_t written_tail_ = 0;
  std::uint64_t flushed_size_ = 0;
  std::vector<Extent> entries_;             // oldest first
  std::map<std::uint64_t, Logged> logged_;  // pages whose newest durable content is not home yet
};

}  // namespace bulkhead::disk::vhdx
