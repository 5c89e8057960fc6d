// SPDX-License-Identifier: Apache-2.0
//
// Virtual disks: raw, VHD and VHDX images, alone and in chains. Nothing here knows what a virtual machine is.
//
//     convert, merge, check ...   (operation/)          nbd server (nbd/)         a storage provider, elsewhere
//             \__________________________|_______________________/
//                                      Disk                                   this file
//                 ______________________|______________________
//             RawDisk             VhdDisk             VhdxDisk                raw/, vhd/, vhdx/
//                 \_____________________|______________________/
//                                      File                                   file/file.hpp
//
// A read goes: Disk::read -> the format finds where each part lies (its tables are cached page by page, page_cache.hpp)
// -> File::read straight into the caller's memory -> io_uring. Parts that a differencing image does not have go to its
// parent(), which is a Disk too.
//
// One disk, its chain and its Ring belong to one thread; any number of operations may be in flight.
#pragma once

#include <cstdint>
#include <string>

#include "disk/buffers.hpp"
#include "disk/guid.hpp"
#include "disk/task.hpp"
#include "error/error.hpp"

namespace bulkhead::disk {

enum class Format { raw, vhd, vhdx };
enum class Kind { fixed, dynamic, differencing };

/// "raw", "vhd", "vhdx"; "fixed", "dynamic", "differencing".
const char* name_of(Format format);
const char* name_of(Kind kind);

struct Properties {
  Format format = Format::raw;
  Kind kind = Kind::fixed;
  /// Of the virtual disk, in bytes; a multiple of the logical sector.
  std::uint64_t size = 0;
  std::uint32_t logical_sector = 512;
  std::uint32_t physical_sector = 512;
  /// How much the image allocates at once; 0 if it has no blocks.
  std::uint32_t block = 0;
  /// VHDX: page 83 data; VHD: unique id; raw: zero.
  Guid identity;
  bool writable = false;
};

/// Where the bytes of a disk are, as far as one image of a chain knows.
enum class Content {
  hole,    // nothing is stored, and it reads as zeros
  zero,    // the image says that it reads as zeros
  data,    // stored in this image
  parent,  // ask the parent
};

struct Extent {
  std::uint64_t length;
  Content content;
  friend bool operator==(const Extent&, const Extent&) = default;
};

class Disk {
 public:
  virtual ~Disk() = default;

  virtual const Properties& properties() const = 0;
  /// The image's file, for errors.
  virtual const std::string& name() const = 0;
  /// What a differencing image lies on; null for others.
  virtual Disk* parent() const { return nullptr; }

  /// Offsets and lengths are multiples of the logical sector and inside the disk; anything else is an error.
  virtual Task<Result<>> read(std::uint64_t offset, Buffers buffers) = 0;
  /// Done when a later read sees it. Durable after a flush that began then; until that, a crash leaves of each sector
  /// either what was there or what was written.
  virtual Task<Result<>> write(std::uint64_t offset, Buffers buffers) = 0;
  virtual Task<Result<>> flush() = 0;
  /// Afterwards the range reads as zeros.
  virtual Task<Result<>> zero(std::uint64_t offset, std::uint64_t length) = 0;
  /// The range is of no interest any more; gives back what space it can, whole blocks at best. Reads give zeros
  /// or what was there.
  virtual Task<Result<>> discard(std::uint64_t offset, std::uint64_t length) = 0;
  /// The run of one content that begins at `offset`, at most `length` long (and perhaps shorter than it could be).
  virtual Task<Result<Extent>> query(std::uint64_t offset, std::uint64_t length) = 0;
  /// Makes everything durable and leaves the image as one that was put away in order. To be awaited before the disk is
  /// destroyed; an image that is just dropped is as after a crash.
  virtual Task<Result<>> close() = 0;
};

/// Like Disk::query of the whole chain: what reads at `offset` give, never Content::parent.
Task<Result<Extent>> query_chain(Disk& disk, std::uint64_t offset, std::uint64_t length);

/// Whether a request is one that `disk` may be asked for: aligned, inside.
Result<> check_request(const Disk& disk, std::uint64_t offset, std::uint64_t length);

/// One contiguous read or write.
inline Task<Result<>> read_bytes(Disk& disk, std::uint64_t offset, std::span<std::byte> bytes) {
  const iovec whole = piece(bytes);
  co_return co_await disk.read(offset, Buffers(&whole, 1));
}
inline Task<Result<>> write_bytes(Disk& disk, std::uint64_t offset, std::span<const std::byte> bytes) {
  const iovec whole = piece(bytes);
  co_return co_await disk.write(offset, Buffers(&whole, 1));
}
/// Reads where the parent may be shorter than its child: what lies past the disk's end is zero.
Task<Result<>> read_padded(Disk& disk, std::uint64_t offset, Buffers buffers);

}  // namespace bulkhead::disk
