// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "engine/file_descriptor.hpp"
#include "error/error.hpp"

namespace bulkhead::worker {

/// The content of an open file, mapped while this object lives.
class ImageFile {
 public:
  /// `what` says in an error what the file is, e.g. "the kernel". Errors: not a regular file, empty, cannot be mapped.
  static Result<ImageFile> map(const engine::FileDescriptor& file, std::string_view what);

  ImageFile() = default;
  ImageFile(ImageFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  ImageFile& operator=(ImageFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~ImageFile();

  std::span<const std::uint8_t> bytes() const { return bytes_; }

 private:
  std::span<std::uint8_t> bytes_;
};

}  // namespace bulkhead::worker
