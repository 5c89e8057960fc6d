// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "disk/file/file.hpp"
#include "disk/file/ring.hpp"

namespace bulkhead::disk {

/// A regular file or block device of the host, through io_uring and the page cache.
///
/// Locks: a writer holds an open-file-description write lock on all of the file, a reader holds read locks on the
/// bytes by which QEMU's programs say "I read, and nobody may write or resize". So two writers, or a writer beside
/// readers, are refused, among our programs and between ours and QEMU's; the locks end with their holder.
class HostFile final : public File {
 public:
  enum class Access { read, write };
  enum class Locking { lock, none };

  /// Takes over `descriptor`. `name` is for errors.
  static Result<std::unique_ptr<HostFile>> adopt(Ring& ring, int descriptor, std::string name, Access access,
                                                 Locking locking = Locking::lock);
  static Result<std::unique_ptr<HostFile>> open(Ring& ring, const std::string& path, Access access,
                                                Locking locking = Locking::lock);
  /// A new, empty file; one that exists is an error.
  static Result<std::unique_ptr<HostFile>> create(Ring& ring, const std::string& path);
  ~HostFile() override;

  const std::string& name() const override { return name_; }
  bool writable() const override { return access_ == Access::write; }
  std::uint64_t size() const override { return size_; }
  Task<Result<>> read(std::uint64_t offset, Buffers buffers) override;
  Task<Result<>> write(std::uint64_t offset, Buffers buffers) override;
  Task<Result<>> flush() override;
  Task<Result<>> begin_flush(std::uint64_t offset, std::uint64_t length) override;
  Task<Result<>> zero(std::uint64_t offset, std::uint64_t length, Zeroing zeroing) override;
  Task<Result<>> resize(std::uint64_t size) override;
  Task<Result<Extent>> query(std::uint64_t offset, std::uint64_t length) override;

 private:
  HostFile(Ring& ring, int descriptor, std::string name, Access access)
      : ring_(ring), descriptor_(descriptor), name_(std::move(name)), access_(access) {}
  Result<> take_locks();
  Result<> find_size();
  Task<Result<>> transfer(std::uint64_t offset, Buffers buffers, bool write);
  Task<Result<>> write_zeros(std::uint64_t offset, std::uint64_t length);
  std::unexpected<Error> failed(const char* what, int number) const;

  Ring& ring_;
  int descriptor_;
  std::string name_;
  Access access_;
  std::uint64_t size_ = 0;
  bool block_device_ = false;
};

}  // namespace bulkhead::disk
