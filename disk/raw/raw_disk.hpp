// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "disk/disk.hpp"
#include "disk/file/file.hpp"

namespace bulkhead::disk {

/// A file whose bytes are the disk's: .img, .raw, .iso, block devices. A file that does not end with a whole sector
/// reads as if zeros followed.
class RawDisk final : public Disk {
 public:
  static Result<std::unique_ptr<RawDisk>> open(std::unique_ptr<File> file, std::uint32_t sector = 512);

  const Properties& properties() const override { return properties_; }
  const std::string& name() const override { return file_->name(); }
  Task<Result<>> read(std::uint64_t offset, Buffers buffers) override;
  Task<Result<>> write(std::uint64_t offset, Buffers buffers) override;
  Task<Result<>> flush() override { return file_->flush(); }
  Task<Result<>> zero(std::uint64_t offset, std::uint64_t length) override;
  Task<Result<>> discard(std::uint64_t offset, std::uint64_t length) override;
  Task<Result<Extent>> query(std::uint64_t offset, std::uint64_t length) override;
  Task<Result<>> close() override { return file_->flush(); }

  /// Changes the disk's size. Cuts without asking: the caller has made sure that nothing is lost.
  Task<Result<>> resize(std::uint64_t size);

 private:
  RawDisk(std::unique_ptr<File> file, Properties properties) : file_(std::move(file)), properties_(properties) {}

  std::unique_ptr<File> file_;
  Properties properties_;
};

}  // namespace bulkhead::disk
