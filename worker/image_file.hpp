// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "engine/file_descriptor.hpp"
#include "error/error.hpp"

namespace bulkhead::worker {

/// The content of an open file, mapped while this object lives. The file must stay open as long.
class ImageFile {
 public:
  /// `what` says in an error what the file is, e.g. "the kernel". Errors: not a regular file, empty, cannot be mapped.
  static Result<ImageFile> map(const engine::FileDescriptor& file, std::string_view what);

  ImageFile() = default;
  ImageFile(ImageFile&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})), path_(std::exchange(other.path_, {})), file_(other.file_) {}
  ImageFile& operator=(ImageFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(path_, other.path_);
    std::swap(file_, other.file_);
    return *this;
  }
  ~ImageFile();

  std::span<const std::uint8_t> bytes() const { return bytes_; }
  /// Whether that is a part of bytes().
  bool holds(std::span<const std::uint8_t> part) const;
  /// Reads a part of bytes() from the file itself to memory of the same size: no part of the mapping is in memory for it. Error: the file
  /// cannot be read, or has become shorter.
  Result<> read(std::span<const std::uint8_t> part, std::span<std::uint8_t> to) const;
  /// Where the file lies, for messages: whoever opened it gave only a descriptor.
  const std::string& path() const { return path_; }

 private:
  std::span<std::uint8_t> bytes_;
  std::string path_;
  int file_ = -1;
};

}  // namespace bulkhead::worker
