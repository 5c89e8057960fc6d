// SPDX-License-Identifier: Apache-2.0
#include "disk/vhdx/log_writer.hpp"

#include <algorithm>

#include "disk/synchronization.hpp"

namespace bulkhead::disk::vhdx {
namespace {

/// Four of the largest entries fit into the smallest log (1 MiB): one that fills its first half, the one that rides on
/// the flush that frees it, and the one that makes the new tail known.
constexpr std::size_t kMostPages = 60;
/// Kept free for the empty entry with which make_room() moves the tail, and so that the head never meets the tail.
constexpr std::uint64_t kReserve = 2 * kLogSector;

}  // namespace

std::vector<std::byte> LogWriter::build_entry(std::span<const PageCache::Taken> taken, std::uint64_t tail) const {
  std::vector<std::byte> entry((1 + taken.size()) * kLogSector);
  LogEntryHeader header;
  header.signature = kLogEntrySignature;
  header.entry_length = static_cast<std::uint32_t>(entry.size());
  header.tail = static_cast<std::uint32_t>(tail);
  header.sequence_number = next_sequence_;
  header.descriptor_count = static_cast<std::uint32_t>(taken.size());
  header.log_guid = guid_;
  header.flushed_file_offset = flushed_size_;
  header.last_file_offset = file_.size();
  store(entry, 0, header);
  for (std::size_t i = 0; i < taken.size(); ++i) {
    const std::span<const std::byte> page(*taken[i].content);
    LogDescriptor descriptor;
    descriptor.signature = kDataDescriptorSignature;
    descriptor.leading_or_length = load<U64>(page);
    descriptor.trailing_bytes = load<U32>(page, kLogSector - 4);
    descriptor.file_offset = taken[i].page;
    descriptor.sequence_number = next_sequence_;
    store(entry, sizeof header + i * sizeof descriptor, descriptor);
    LogDataSector sector;
    sector.signature = kLogDataSignature;
    sector.sequence_high = static_cast<std::uint32_t>(next_sequence_ >> 32);
    sector.sequence_low = static_cast<std::uint32_t>(next_sequence_);
    std::ranges::copy(page.subspan(8, sector.data.size()), sector.data.begin());
    store(entry, (1 + i) * kLogSector, sector);
  }
  header.checksum = checksum_of(entry);
  store(entry, 0, header);
  return entry;
}

Task<Result<>> LogWriter::write_at(std::uint64_t position, std::span<const std::byte> bytes) {
  const auto offset = headers_.current().log_offset;
  const auto first = std::min<std::uint64_t>(bytes.size(), log_length() - position);
  auto written = co_await write_bytes(file_, offset + position, bytes.first(first));
  if (written && first < bytes.size()) {
    written = co_await write_bytes(file_, offset, bytes.subspan(first));
  }
  co_return written;
}

/// A log that the header names must hold a valid entry, so an empty one is there before the header is.
Task<Result<>> LogWriter::begin() {
  guid_ = Guid::random();
  flushed_size_ = file_.size();
  auto done = co_await append({});
  if (done) {
    done = co_await flush();
  }
  if (done) {
    done = co_await headers_.update(file_, [this](Header& header) {
      header.log_guid = guid_;
      header.log_version = 0;
    });
  }
  begun_ = done.has_value();
  co_return done;
}

Task<Result<>> LogWriter::append(std::span<const PageCache::Taken> taken) {
  const auto tail = entries_.empty() ? head_ : entries_.front().position;
  const auto entry = build_entry(taken, tail);
  auto written = co_await write_at(head_, entry);
  if (!written) {
    co_return written;
  }
  entries_.push_back({head_, next_sequence_});
  for (const auto& page : taken) {
    auto& logged = logged_[page.page];
    logged.content = page.content;
    logged.sequence = next_sequence_;
    ++logged.pins;
  }
  ++next_sequence_;
  head_ = (head_ + entry.size()) % log_length();
  used_ += entry.size();
  written_tail_ = tail;
  co_return Result<>();
}

Task<Result<>> LogWriter::flush() {
  const auto size = file_.size();
  auto flushed = co_await file_.flush();
  if (flushed) {
    flushed_size_ = size;
    // What lies before the tail that a durable entry names may be overwritten, and nothing else.
    used_ = head_ >= written_tail_ ? head_ - written_tail_ : log_length() - written_tail_ + head_;
  }
  co_return flushed;
}

Task<Result<>> LogWriter::commit(bool barrier) {
  // Pages that become dirty from here on belong to the next commit: the barrier below does not cover their data.
  // Should they fill several entries, of which a crash keeps the first: they begin with the last page, so the BAT entry
  // of a sector bitmap, which lies behind those of its chunk's blocks, is never the one that is lost.
  const auto taken = pages_.take_dirty();
  Result<> done;
  if (!begun_) {
    done = co_await begin();
  }
  if (done && barrier) {
    done = co_await flush();
  }
  const auto durable = next_sequence_;  // entries below this number are durable by now and can go home
  const bool tidy = used_ > log_length() / 2;
  if (done && tidy) {
    done = co_await write_logged_home();
  }
  std::span<const PageCache::Taken> left(taken);
  while (done && !left.empty()) {
    const auto some = left.first(std::min(left.size(), kMostPages));
    if (used_ + (1 + some.size()) * kLogSector > log_length() - kReserve) {
      done = co_await make_room();
    }
    if (done) {
      done = co_await append(some);
    }
    left = left.subspan(some.size());
  }
  if (done) {
    done = co_await flush();
  }
  if (done && tidy) {
    free_entries_before(durable);
  }
  co_return done;
}

Task<Result<>> LogWriter::make_room() {
  auto done = co_await flush();  // only what is durable in the log may be written home
  if (done) {
    done = co_await write_home();
  }
  if (done) {
    done = co_await append({});  // says where the tail is now
  }
  if (done) {
    done = co_await flush();
  }
  co_return done;
}

Task<Result<>> LogWriter::write_logged_home() {
  TaskGroup writes;
  std::vector<std::shared_ptr<std::vector<std::byte>>> contents;  // what is being written must outlive a newer commit
  for (const auto& [page, logged] : logged_) {
    contents.push_back(logged.content);
    writes.add(write_bytes(file_, page, *logged.content));
  }
  co_return co_await writes.wait();
}

/// Entries with lower numbers are home and durable. The newest entry stays: a log that the header names is never empty.
void LogWriter::free_entries_before(std::uint64_t sequence) {
  std::erase_if(logged_, [&](const auto& entry) {
    if (entry.second.sequence >= sequence) {
      return false;
    }
    for (std::uint32_t i = 0; i < entry.second.pins; ++i) {
      pages_.release(entry.first);
    }
    return true;
  });
  while (entries_.size() > 1 && entries_.front().sequence < sequence) {
    entries_.erase(entries_.begin());
  }
}

Task<Result<>> LogWriter::write_home() {
  const auto durable = next_sequence_;
  auto done = co_await write_logged_home();
  if (done) {
    done = co_await flush();
  }
  if (done) {
    free_entries_before(durable);
  }
  co_return done;
}

Task<Result<>> LogWriter::close() {
  if (!begun_) {
    co_return Result<>();
  }
  auto done = co_await headers_.update(file_, [](Header& header) { header.log_guid = Guid{}; });
  if (done) {
    done = co_await headers_.update(file_, [](Header&) {});
    begun_ = false;
    entries_.clear();
    head_ = used_ = written_tail_ = 0;
  }
  co_return done;
}

}  // namespace bulkhead::disk::vhdx
