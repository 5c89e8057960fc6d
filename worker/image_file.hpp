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

/// The content of an open file, mapped while this object lives.
class ImageFile {
 public:
  /// `what` says in an error what the file is, e.g. "the kernel". Errors: not a regular file, empty, cannot be mapped.
  static Result<ImageFile> map(const engine::FileDescriptor& file, std::string_view what);

  ImageFile() = default;
  ImageFile(ImageFile&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})), path_(std::exchange(other.path_, {})) {}
  ImageFile& operator=(ImageFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(path_, other.path_);
    return *this;
  }
  ~ImageFile();

  std::span<const std::uint8_t> bytes() const { return bytes_; }
  /// A part of an image's bytes is not looked at any more: it takes no memory of this process then.
  static void let_go(std::span<const std::uint8_t> part);
  /// Where the file lies, for messages: whoever opened it gave only a descriptor.
  const std::string& path() const { return path_; }

 private:
  std::span<std::uint8_t> bytes_;
  std::string path_;
};

}  // namespace bulkhead::worker
