// SPDX-License-Identifier: Apache-2.0
#include "disk/vhdx/header.hpp"

#include <fmt/format.h>

#include <string_view>

#include "disk/crc32c.hpp"

namespace bulkhead::disk::vhdx {
namespace {

bool is_valid(const Header& header) {
  return header.signature == kHeaderSignature && header.checksum == checksum_of(bytes_of(header));
}

Result<> check(const File& file, const Header& header) {
  if (header.version != 1) {
    return fail(
        fmt::format("'{}' is VHDX version {}; only version 1 is known", file.name(), std::uint16_t{header.version}));
  }
  if (!header.log_guid.is_zero() && header.log_version != 0) {
    return fail(fmt::format("'{}' has a log of version {}; only version 0 is known", file.name(),
                            std::uint16_t{header.log_version}));
  }
  const std::uint64_t offset = header.log_offset;
  const std::uint64_t length = header.log_length;
  if (offset < kMiB || offset % kAlignment != 0 || length == 0 || length % kAlignment != 0 || offset > file.size() ||
      length > file.size() - offset) {
    return fail(fmt::format("'{}' is damaged: its log is said to be {} bytes at {}, outside of the file", file.name(),
                            length, offset));
  }
  return {};
}

}  // namespace

std::uint32_t checksum_of(std::span<const std::byte> structure) {
  constexpr std::array<std::byte, 4> kZero{};
  auto crc = crc32c(structure.first(4));
  crc = crc32c(kZero, crc);
  return crc32c(structure.subspan(8), crc);
}

Task<Result<HeaderSection>> HeaderSection::load(File& file) {
  FileIdentifier identifier;
  auto read = co_await read_bytes(file, 0, writable_bytes_of(identifier));
  if (!read) {
    co_return std::unexpected(read.error());
  }
  if (identifier.signature != kFileSignature) {
    co_return fail(fmt::format("'{}' is not a VHDX file", file.name()));
  }
  std::array<Header, 2> headers;
  std::array<bool, 2> valid{};
  for (std::size_t i = 0; i < 2; ++i) {
    read = co_await read_bytes(file, kHeaderOffsets[i], writable_bytes_of(headers[i]));
    if (!read) {
      co_return std::unexpected(read.error());
    }
    valid[i] = is_valid(headers[i]);
  }
  if (!valid[0] && !valid[1]) {
    co_return fail(fmt::format("'{}' is damaged: neither of its headers is valid", file.name()));
  }
  HeaderSection section;
  section.valid_ = static_cast<int>(valid[0]) + static_cast<int>(valid[1]);
  const bool second =
      valid[1] && (!valid[0] || std::uint64_t{headers[1].sequence_number} > std::uint64_t{headers[0].sequence_number});
  section.slot_ = second ? 1 : 0;
  section.header_ = headers[static_cast<std::size_t>(section.slot_)];
  if (auto checked = check(file, section.header_); !checked) {
    co_return std::unexpected(checked.error());
  }
  co_return section;
}

Task<Result<HeaderSection>> HeaderSection::create(File& file, std::uint64_t log_offset, std::uint32_t log_length) {
  FileIdentifier identifier;
  identifier.signature = kFileSignature;
  constexpr std::u16string_view kCreator = u"Bulkhead";
  for (std::size_t i = 0; i < kCreator.size(); ++i) {
    identifier.creator[i] = static_cast<std::uint16_t>(kCreator[i]);
  }
  auto written = co_await write_bytes(file, 0, bytes_of(identifier));
  if (!written) {
    co_return std::unexpected(written.error());
  }
  HeaderSection section;
  section.header_.signature = kHeaderSignature;
  section.header_.version = 1;
  section.header_.log_offset = log_offset;
  section.header_.log_length = log_length;
  section.header_.file_write_guid = Guid::random();
  section.header_.data_write_guid = Guid::random();
  for (int copy = 0; copy < 2; ++copy) {
    written = co_await section.write(file, section.header_);
    if (!written) {
      co_return std::unexpected(written.error());
    }
  }
  section.valid_ = 2;
  co_return section;
}

Task<Result<>> HeaderSection::write(File& file, Header next) {
  next.sequence_number = header_.sequence_number + 1;
  next.checksum = checksum_of(bytes_of(next));
  const int slot = 1 - slot_;
  auto written = co_await write_bytes(file, kHeaderOffsets[slot], bytes_of(next));
  if (written) {
    written = co_await file.flush();
  }
  if (written) {
    header_ = next;
    slot_ = slot;
  }
  co_return written;
}

}  // namespace bulkhead::disk::vhdx
