// SPDX-License-Identifier: Apache-2.0
#include "disk/vhdx/log_reader.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace bulkhead::disk::vhdx {
namespace {

/// An entry is held in memory while it is looked at. Known writers' logs are 1 MiB as a whole.
constexpr std::uint64_t kLargestEntry = 64 * kMiB;
/// The log is for tables; the headers in front of the region tables change without it.
constexpr std::uint64_t kFirstLoggedByte = kRegionTableOffsets[0];
/// No file that holds a 64 TB disk and its tables needs to be larger than this.
constexpr std::uint64_t kLargestFile = 128 * kTiB;

std::uint64_t descriptor_sectors(std::uint64_t count) {
  return (sizeof(LogEntryHeader) + count * sizeof(LogDescriptor) + kLogSector - 1) / kLogSector;
}

LogDescriptor descriptor_at(std::span<const std::byte> entry, std::uint64_t index) {
  return load<LogDescriptor>(entry, sizeof(LogEntryHeader) + index * sizeof(LogDescriptor));
}

/// Whether descriptors `first`.. that lie in the sectors loaded so far are well-formed; counts the data sectors.
bool check_descriptors(std::span<const std::byte> entry, const LogEntryHeader& header, std::uint64_t& data_sectors) {
  data_sectors = 0;
  for (std::uint64_t i = 0; i < header.descriptor_count; ++i) {
    const auto descriptor = descriptor_at(entry, i);
    const bool data = descriptor.signature == kDataDescriptorSignature;
    if (!data && descriptor.signature != kZeroDescriptorSignature) {
      return false;
    }
    const std::uint64_t offset = descriptor.file_offset;
    const std::uint64_t length = data ? kLogSector : std::uint64_t{descriptor.leading_or_length};
    if (descriptor.sequence_number != std::uint64_t{header.sequence_number} || offset % kLogSector != 0 ||
        length % kLogSector != 0 || offset < kFirstLoggedByte || offset > kLargestFile || length > kLargestFile) {
      return false;
    }
    data_sectors += data ? 1 : 0;
  }
  return true;
}

bool check_data_sector(std::span<const std::byte> sector, const LogEntryHeader& header) {
  const auto data = load<LogDataSector>(sector);
  const std::uint64_t sequence = (std::uint64_t{data.sequence_high} << 32) | std::uint64_t{data.sequence_low};
  return data.signature == kLogDataSignature && sequence == header.sequence_number;
}

}  // namespace

bool LogReader::is_plausible(const LogEntryHeader& header) const {
  const std::uint64_t length = header.entry_length;
  return header.signature == kLogEntrySignature && header.log_guid == guid_ && length % kLogSector == 0 &&
         length >= kLogSector && length <= std::min(length_, kLargestEntry) && header.tail % kLogSector == 0 &&
         header.tail < length_ && header.sequence_number != 0 &&
         descriptor_sectors(header.descriptor_count) * kLogSector <= length && header.last_file_offset <= kLargestFile;
}

Task<Result<>> LogReader::append_sectors(Entry& entry, std::uint64_t count) {
  const auto start = entry.bytes.size();
  entry.bytes.resize(start + count * kLogSector);
  auto left = std::span(entry.bytes).subspan(start);
  auto at = (entry.position + start) % length_;
  while (!left.empty()) {
    const auto part = std::min<std::uint64_t>(left.size(), length_ - at);
    auto read = co_await read_bytes(file_, offset_ + at, left.first(part));
    if (!read) {
      co_return read;
    }
    left = left.subspan(part);
    at = 0;
  }
  co_return Result<>();
}

Task<Result<std::optional<LogReader::Entry>>> LogReader::load_entry(std::uint64_t position) {
  Entry entry{position, {}, {}};
  auto read = co_await append_sectors(entry, 1);
  if (!read) {
    co_return std::unexpected(read.error());
  }
  entry.header = load<LogEntryHeader>(entry.bytes);
  if (!is_plausible(entry.header)) {
    co_return std::optional<Entry>();
  }
  // Sector by sector, giving up at the first that does not fit, so that overlapping lengths cost nothing.
  const auto descriptors = descriptor_sectors(entry.header.descriptor_count);
  for (std::uint64_t sector = 1; sector < descriptors; ++sector) {
    read = co_await append_sectors(entry, 1);
    if (!read) {
      co_return std::unexpected(read.error());
    }
    const auto first = load<LogDescriptor>(entry.bytes, sector * kLogSector);
    if (first.signature != kDataDescriptorSignature && first.signature != kZeroDescriptorSignature) {
      co_return std::optional<Entry>();
    }
  }
  std::uint64_t data_sectors = 0;
  if (!check_descriptors(entry.bytes, entry.header, data_sectors) ||
      entry.header.entry_length != (descriptors + data_sectors) * kLogSector) {
    co_return std::optional<Entry>();
  }
  for (std::uint64_t sector = 0; sector < data_sectors; ++sector) {
    read = co_await append_sectors(entry, 1);
    if (!read) {
      co_return std::unexpected(read.error());
    }
    if (!check_data_sector(std::span(entry.bytes).last(kLogSector), entry.header)) {
      co_return std::optional<Entry>();
    }
  }
  if (checksum_of(entry.bytes) != entry.header.checksum) {
    co_return std::optional<Entry>();
  }
  co_return std::optional<Entry>(std::move(entry));
}

LogReader::Sequence LogReader::from_tail(Sequence sequence) {
  const auto tail = sequence.empty() ? 0 : sequence.back().tail;
  const auto oldest = std::ranges::find(sequence, tail, &Place::position);
  return {oldest, sequence.end()};
}

Task<Result<LogReader::Sequence>> LogReader::find_active() {
  Sequence active;
  std::uint64_t start = 0;
  while (start < length_) {
    Sequence candidate;
    std::uint64_t total = 0;
    for (;;) {
      const auto position = (start + total) % length_;
      auto entry = co_await load_entry(position);
      if (!entry) {
        co_return std::unexpected(entry.error());
      }
      if (!*entry || total + (*entry)->header.entry_length > length_ ||
          (!candidate.empty() && (*entry)->header.sequence_number != candidate.back().sequence + 1)) {
        break;
      }
      const auto& header = (*entry)->header;
      candidate.push_back({position, header.entry_length, header.sequence_number, header.tail});
      total += header.entry_length;
    }
    start += std::max(total, kLogSector);
    auto valid = from_tail(std::move(candidate));
    if (!valid.empty() && (active.empty() || valid.back().sequence > active.back().sequence)) {
      active = std::move(valid);
    }
  }
  co_return active;
}

Task<Result<>> LogReader::apply(const Entry& entry, File& target) {
  const auto& header = entry.header;
  auto sector = descriptor_sectors(header.descriptor_count) * kLogSector;
  for (std::uint64_t i = 0; i < header.descriptor_count; ++i) {
    const auto descriptor = descriptor_at(entry.bytes, i);
    const std::uint64_t offset = descriptor.file_offset;
    const bool data = descriptor.signature == kDataDescriptorSignature;
    const auto length = data ? kLogSector : std::uint64_t{descriptor.leading_or_length};
    const auto end = std::max<std::uint64_t>(header.last_file_offset, target.size());
    if (offset > end || length > end - offset) {
      co_return fail(fmt::format("'{}' is damaged: its log changes what lies outside of the file", file_.name()));
    }
    Result<> done;
    if (data) {
      std::vector<std::byte> page(kLogSector);
      const auto source = load<LogDataSector>(entry.bytes, sector);
      store(page, 0, descriptor.leading_or_length);
      std::ranges::copy(source.data, page.begin() + 8);
      store(page, kLogSector - 4, descriptor.trailing_bytes);
      sector += kLogSector;
      done = co_await write_bytes(target, offset, page);
    } else {
      done = co_await target.zero(offset, length, File::Zeroing::give_space_back);
    }
    if (!done) {
      co_return done;
    }
  }
  co_return Result<>();
}

Task<Result<>> LogReader::replay(File& target) {
  auto active = co_await find_active();
  if (!active) {
    co_return std::unexpected(active.error());
  }
  if (active->empty()) {
    co_return fail(fmt::format("'{}' is damaged: it was not closed, and its log is not readable", file_.name()));
  }
  for (const auto& place : *active) {
    auto entry = co_await load_entry(place.position);
    if (!entry) {
      co_return std::unexpected(entry.error());
    }
    if (!*entry || (*entry)->header.sequence_number != place.sequence) {
      co_return fail(fmt::format("'{}' changed while its log was read", file_.name()));
    }
    const auto& header = (*entry)->header;
    if (target.size() < header.flushed_file_offset) {
      co_return fail(fmt::format("'{}' was cut: it has {} bytes, and had {}", file_.name(), target.size(),
                                 std::uint64_t{header.flushed_file_offset}));
    }
    Result<> done;
    if (target.size() < header.last_file_offset) {
      done = co_await target.resize(header.last_file_offset);
    }
    if (done) {
      done = co_await apply(**entry, target);
    }
    if (!done) {
      co_return done;
    }
  }
  co_return Result<>();
}

}  // namespace bulkhead::disk::vhdx
