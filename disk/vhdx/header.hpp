// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <optional>

#include "disk/file/file.hpp"
#include "disk/synchronization.hpp"
#include "disk/vhdx/layout.hpp"

namespace bulkhead::disk::vhdx {

/// The two headers, of which the valid one with the higher sequence number is current ([MS-VHDX] 2.2.2). An update goes
/// to the other one, so that there is a valid header at every moment.
class HeaderSection {
 public:
  /// Fails if the file is no VHDX, or neither header is valid, or its version or log is not one that we know.
  static Task<Result<HeaderSection>> load(File& file);
  /// For a new file: both headers and the file identifier.
  static Task<Result<HeaderSection>> create(File& file, std::uint64_t log_offset, std::uint32_t log_length);

  const Header& current() const { return header_; }
  /// How many of the two are valid; below 2 a repair writes the other one.
  int valid_copies() const { return valid_; }

  /// Writes `change` of the current header as the new one, and flushes.
  template <typename Change>
  Task<Result<>> update(File& file, Change change) {
    auto held = co_await updating_.lock();
    Header next = header_;
    change(next);
    co_return co_await write(file, next);
  }

 private:
  Task<Result<>> write(File& file, Header next);

  Mutex updating_;
  Header header_;
  int slot_ = 0;
  int valid_ = 0;
};

/// The checksum of a structure of the format, computed with its own field (bytes 4 to 7) taken as zero.
std::uint32_t checksum_of(std::span<const std::byte> structure);

}  // namespace bulkhead::disk::vhdx
