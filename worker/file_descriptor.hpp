// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <utility>

namespace bulkhead::worker {

/// An open file of this process, closed at the end of its life; or none.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int number) : number_(number) {}
  ~FileDescriptor() {
    if (number_ >= 0) ::close(number_);
  }
  FileDescriptor(FileDescriptor&& other) noexcept : number_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }

  bool is_open() const { return number_ >= 0; }
  int number() const { return number_; }
  /// Gives it away; the caller closes it.
  int release() { return std::exchange(number_, -1); }
  void close() { FileDescriptor closing(std::move(*this)); }

 private:
  int number_ = -1;
};

}  // namespace bulkhead::worker
