// SPDX-License-Identifier: Apache-2.0
#include "disk/file/host_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "disk/byte_order.hpp"

namespace bulkhead::disk {
namespace {

// So many bytes and more are read by threads of the kernel, side by side: this one would copy them out of the page cache one after another.
constexpr std::uint64_t kThreadedRead = kMiB;

/// The bytes on which QEMU's programs lock: 100 + permission they use, 200 + permission they allow nobody else.
constexpr off_t kQemuReads = 100;
constexpr off_t kQemuWrites = 101;
constexpr off_t kQemuForbidsWriting = 201;
constexpr off_t kQemuForbidsResizing = 203;

struct flock lock_of(short type, off_t start, off_t length) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = start;
  lock.l_len = length;  // 0: to the end, however far the file grows
  return lock;
}

}  // namespace

std::unexpected<Error> HostFile::failed(const char* what, int number) const {
  return std::unexpected(Error::from_errno(fmt::format("cannot {} '{}'", what, name_), number));
}

Result<std::unique_ptr<HostFile>> HostFile::adopt(Ring& ring, int descriptor, std::string name, Access access,
                                                  Locking locking) {
  std::unique_ptr<HostFile> file(new HostFile(ring, descriptor, std::move(name), access));
  if (auto sized = file->find_size(); !sized) {
    return std::unexpected(sized.error());
  }
  if (locking == Locking::lock) {
    if (auto locked = file->take_locks(); !locked) {
      return std::unexpected(locked.error());
    }
  }
  return file;
}

Result<std::unique_ptr<HostFile>> HostFile::open(Ring& ring, const std::string& path, Access access, Locking locking) {
  const int flags = access == Access::write ? O_RDWR : O_RDONLY;
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (descriptor < 0) {
    const char* purpose = access == Access::write ? " for writing" : "";
    return std::unexpected(Error::from_errno(fmt::format("cannot open '{}'{}", path, purpose), errno));
  }
  return adopt(ring, descriptor, path, access, locking);
}

Result<std::unique_ptr<HostFile>> HostFile::create(Ring& ring, const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (descriptor < 0) {
    return std::unexpected(Error::from_errno(fmt::format("cannot create '{}'", path), errno));
  }
  return adopt(ring, descriptor, path, Access::write);
}

HostFile::~HostFile() { ::close(descriptor_); }

Result<> HostFile::find_size() {
  struct stat status{};
  if (fstat(descriptor_, &status) != 0) {
    return failed("look at", errno);
  }
  if (S_ISREG(status.st_mode)) {
    size_ = static_cast<std::uint64_t>(status.st_size);
    return {};
  }
  if (S_ISBLK(status.st_mode)) {
    block_device_ = true;
    return ioctl(descriptor_, BLKGETSIZE64, &size_) == 0 ? Result<>() : failed("find the size of", errno);
  }
  return fail(fmt::format("cannot use '{}' as a disk: it is neither a file nor a block device", name_));
}

Result<> HostFile::take_locks() {
  if (access_ == Access::write) {
    auto all = lock_of(F_WRLCK, 0, 0);
    if (fcntl(descriptor_, F_OFD_SETLK, &all) != 0) {
      return errno == EAGAIN || errno == EACCES
                 ? fail(fmt::format("cannot write to '{}': another program is using it", name_))
                 : failed("lock", errno);
    }
    return {};
  }
  for (const off_t byte : {kQemuReads, kQemuForbidsWriting, kQemuForbidsResizing}) {
    auto shared = lock_of(F_RDLCK, byte, 1);
    if (fcntl(descriptor_, F_OFD_SETLK, &shared) != 0) {
      return errno == EAGAIN || errno == EACCES
                 ? fail(fmt::format("cannot read '{}': another program is writing to it", name_))
                 : failed("lock", errno);
    }
  }
  auto writer = lock_of(F_WRLCK, kQemuWrites, 1);
  if (fcntl(descriptor_, F_OFD_GETLK, &writer) == 0 && writer.l_type != F_UNLCK) {
    return fail(fmt::format("cannot read '{}': another program is writing to it", name_));
  }
  return {};
}

Task<Result<>> HostFile::transfer(std::uint64_t offset, Buffers buffers, bool write) {
  std::vector<iovec> rest;
  std::uint64_t left = total_length(buffers);
  while (left > 0) {
    const auto count = static_cast<unsigned>(std::min<std::size_t>(buffers.size(), IOV_MAX));
    const int result = co_await ring_.operation([&](io_uring_sqe* sqe) {
      if (write) {
        io_uring_prep_writev(sqe, descriptor_, buffers.data(), count, offset);
      } else {
        io_uring_prep_readv(sqe, descriptor_, buffers.data(), count, offset);
        if (left >= kThreadedRead) io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
      }
    });
    if (result == -EINTR || result == -EAGAIN) {
      continue;
    }
    if (result < 0) {
      co_return failed(write ? "write to" : "read", -result);
    }
    const auto done = static_cast<std::uint64_t>(result);
    if (done == 0) {
      if (write) {
        co_return failed("write to", ENOSPC);
      }
      fill_zero(buffers, 0, left);
      break;
    }
    offset += done;
    left -= done;
    if (left > 0) {
      auto remaining = slice(buffers, done, left);
      rest.swap(remaining);
      buffers = rest;
    }
  }
  if (write) {
    size_ = std::max(size_, offset);
  }
  co_return Result<>();
}

Task<Result<>> HostFile::read(std::uint64_t offset, Buffers buffers) { return transfer(offset, buffers, false); }

Task<Result<>> HostFile::write(std::uint64_t offset, Buffers buffers) { return transfer(offset, buffers, true); }

Task<Result<>> HostFile::flush() {
  const int result = co_await ring_.operation(
      [&](io_uring_sqe* sqe) { io_uring_prep_fsync(sqe, descriptor_, IORING_FSYNC_DATASYNC); });
  if (result < 0) {
    co_return failed("flush", -result);
  }
  co_return Result<>();
}

Task<Result<>> HostFile::begin_flush(std::uint64_t offset, std::uint64_t length) {
  co_await ring_.operation([&](io_uring_sqe* sqe) {
    io_uring_prep_sync_file_range(sqe, descriptor_, static_cast<unsigned>(length), offset, SYNC_FILE_RANGE_WRITE);
  });
  co_return Result<>();
}

Task<Result<>> HostFile::zero(std::uint64_t offset, std::uint64_t length, Zeroing zeroing) {
  if (length == 0) {
    co_return Result<>();
  }
  const int mode = zeroing == Zeroing::give_space_back ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
  int result = 0;
  do {
    result = co_await ring_.operation([&](io_uring_sqe* sqe) {
      io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, descriptor_, nullptr,
                       static_cast<unsigned>(mode | FALLOC_FL_KEEP_SIZE), offset);
      sqe->addr = length;
    });
  } while (result == -EINTR || result == -EAGAIN);
  if (result == -EOPNOTSUPP || result == -EINVAL) {  // not every file system and device can
    co_return co_await write_zeros(offset, length);
  }
  if (result < 0) {
    co_return failed("zero a part of", -result);
  }
  co_return Result<>();
}

Task<Result<>> HostFile::write_zeros(std::uint64_t offset, std::uint64_t length) {
  constexpr std::size_t kPiece = std::size_t{256} * 1024;
  static const std::vector<std::byte> zeros(kPiece);
  const std::vector<iovec> pieces(256, piece(zeros));
  length = offset < size_ ? std::min(length, size_ - offset) : 0;
  while (length > 0) {
    const auto part = std::min<std::uint64_t>(length, pieces.size() * kPiece);
    const auto window = slice(pieces, 0, part);
    auto written = co_await write(offset, window);
    if (!written) {
      co_return written;
    }
    offset += part;
    length -= part;
  }
  co_return Result<>();
}

Task<Result<>> HostFile::resize(std::uint64_t size) {
  if (block_device_) {
    if (size <= size_) {
      co_return Result<>();
    }
    co_return fail(fmt::format("cannot grow '{}': it is a block device of {} bytes", name_, size_));
  }
  if (ftruncate(descriptor_, static_cast<off_t>(size)) != 0) {
    co_return failed("change the size of", errno);
  }
  size_ = size;
  co_return Result<>();
}

Task<Result<File::Extent>> HostFile::query(std::uint64_t offset, std::uint64_t length) {
  if (block_device_) {
    co_return Extent{length, false};
  }
  if (offset >= size_) {
    co_return Extent{length, true};
  }
  const off_t data = lseek(descriptor_, static_cast<off_t>(offset), SEEK_DATA);
  if (data < 0) {
    co_return errno == ENXIO ? Extent{length, true} : Extent{length, false};
  }
  if (static_cast<std::uint64_t>(data) > offset) {
    co_return Extent{std::min(length, static_cast<std::uint64_t>(data) - offset), true};
  }
  const off_t hole = lseek(descriptor_, static_cast<off_t>(offset), SEEK_HOLE);
  const auto end = hole < 0 ? size_ : static_cast<std::uint64_t>(hole);
  co_return Extent{std::min(length, std::max(end, offset + 1) - offset), false};
}

}  // namespace bulkhead::disk
