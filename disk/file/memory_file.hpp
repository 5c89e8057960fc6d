// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <map>
#include <memory>
#include <string>

#include "disk/file/file.hpp"

namespace bulkhead::disk {

/// Bytes that live in memory, page by page, so that a 64 TB image costs what is written to it.
class SparseBytes {
 public:
  static constexpr std::uint64_t kPage = 4096;

  void read(std::uint64_t offset, std::span<std::byte> bytes) const;
  void write(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Gives whole pages back.
  void zero(std::uint64_t offset, std::uint64_t length);
  File::Extent query(std::uint64_t offset, std::uint64_t length) const;
  std::uint64_t pages() const { return pages_.size(); }

 private:
  using Page = std::array<std::byte, kPage>;
  // Shared between copies until one of them writes: a crash test makes a copy for each state that it tries.
  std::map<std::uint64_t, std::shared_ptr<Page>> pages_;
};

/// A file in memory. Everything completes at once.
class MemoryFile final : public File {
 public:
  explicit MemoryFile(std::string name = "memory") : name_(std::move(name)) {}
  MemoryFile(std::string name, SparseBytes bytes, std::uint64_t size)
      : name_(std::move(name)), bytes_(std::move(bytes)), size_(size) {}
  MemoryFile(std::string name, std::span<const std::byte> content) : name_(std::move(name)), size_(content.size()) {
    bytes_.write(0, content);
  }

  const SparseBytes& bytes() const { return bytes_; }
  void set_writable(bool writable) { writable_ = writable; }

  const std::string& name() const override { return name_; }
  bool writable() const override { return writable_; }
  std::uint64_t size() const override { return size_; }
  Task<Result<>> read(std::uint64_t offset, Buffers buffers) override;
  Task<Result<>> write(std::uint64_t offset, Buffers buffers) override;
  Task<Result<>> flush() override;
  Task<Result<>> zero(std::uint64_t offset, std::uint64_t length, Zeroing zeroing) override;
  Task<Result<>> resize(std::uint64_t size) override;
  Task<Result<Extent>> query(std::uint64_t offset, std::uint64_t length) override;

 private:
  std::string name_;
  SparseBytes bytes_;
  std::uint64_t size_ = 0;
  bool writable_ = true;
};

}  // namespace bulkhead::disk
