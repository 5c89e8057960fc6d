// SPDX-License-Identifier: Apache-2.0
#include "disk/operation/copy.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "disk/byte_order.hpp"
#include "disk/synchronization.hpp"

namespace bulkhead::disk {
namespace {

constexpr std::uint64_t kPiece = kMiB;
constexpr std::size_t kWorkers = 8;
constexpr std::uint64_t kZeroGrain = 64 * kKiB;  // runs of zeros shorter than this are copied

/// What the workers of one copy share: the next place that nobody has taken yet.
struct Copying {
  Disk& from;
  Disk& to;
  const CopyOptions& options;
  std::uint64_t next;
  std::uint64_t end;  // of this stretch
  std::uint64_t done;
  bool stop = false;
  bool changed = false;  // something of the target
  Extent known{};        // what begins at `next`; asking is dear, and many pieces come out of one answer
  Mutex asking{};

  struct Part {
    std::uint64_t offset;
    std::uint64_t length;
    Content content;
  };

  /// Only one worker asks at a time, so parts are taken in order.
  Task<Result<Part>> take() {
    auto held = co_await asking.lock();
    if (stop || next >= end) {
      co_return Part{end, 0, Content::hole};
    }
    if (known.length == 0) {
      auto extent = options.layer == CopyLayer::own ? co_await from.query(next, end - next)
                                                    : co_await query_chain(from, next, end - next);
      if (!extent) {
        co_return std::unexpected(extent.error());
      }
      known = *extent;
    }
    auto part = whole_sectors(known);
    if (part.content == Content::data) {
      part.length = std::min(part.length, kPiece - next % kPiece);
    }
    next += part.length;
    known.length -= std::min(known.length, part.length);
    co_return part;
  }

  /// What begins at `next`, cut where a sector of both disks ends. One that is a mixture is read as data.
  Part whole_sectors(const Extent& extent) const {
    const std::uint64_t sector = std::max(from.properties().logical_sector, to.properties().logical_sector);
    const auto last = next + extent.length;
    if (last >= end || last % sector == 0) {
      return {next, std::min(extent.length, end - next), extent.content};
    }
    if (const auto whole = last / sector * sector; whole > next) {
      return {next, whole - next, extent.content};
    }
    return {next, std::min(sector - next % sector, end - next), Content::data};
  }

  Task<Result<>> write_data(const Part& part, std::span<std::byte> buffer) {
    auto result = co_await read_bytes(from, part.offset, buffer.first(part.length));
    // The last sector of the target may be larger than what the source has for it.
    const auto length = align_up(part.length, to.properties().logical_sector);
    const auto bytes = buffer.first(length);
    std::ranges::fill(bytes.subspan(part.length), std::byte{0});
    for (std::uint64_t at = 0; result && at < length;) {
      // Alternate runs of pieces that are zero and pieces that are not.
      const auto grain = [&](std::uint64_t position) {
        return bytes.subspan(position, std::min(kZeroGrain, length - position));
      };
      const bool zero = all_zero(grain(at));
      auto run = grain(at).size();
      while (at + run < length && all_zero(grain(at + run)) == zero) {
        run += grain(at + run).size();
      }
      if (!zero) {
        result = co_await write_bytes(to, part.offset + at, bytes.subspan(at, run));
      } else if (options.layer == CopyLayer::own) {
        result = co_await to.zero(part.offset + at, run);
      }
      at += run;
    }
    co_return result;
  }

  /// `buffer` is this worker's own.
  Task<Result<>> work(PageBuffer& buffer) {
    for (;;) {
      auto part = co_await take();
      if (!part || part->length == 0) {
        co_return part ? Result<>() : std::unexpected(part.error());
      }
      Result<> result;
      if (part->content == Content::data) {
        changed = true;
        buffer.resize(kPiece);  // the first time
        result = co_await write_data(*part, buffer);
      } else if (options.layer == CopyLayer::own && part->content != Content::parent) {
        changed = true;
        result = co_await to.zero(part->offset, part->length);
      }
      if (!result) {
        stop = true;
        co_return result;
      }
      done += part->length;
      if (options.progress && !options.progress(done, options.end)) {
        stop = true;
      }
    }
  }
};

Task<Result<>> make_durable(Disk& to, const CopyOptions& options, std::uint64_t end) {
  auto done = co_await to.flush();
  if (done && options.flushed) {
    done = co_await options.flushed(end);
  }
  co_return done;
}

}  // namespace

bool all_zero(std::span<const std::byte> bytes) {
  return bytes.empty() ||
         (bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

Task<Result<bool>> holds_zeros(Disk& disk, CopyLayer layer, std::uint64_t offset, std::uint64_t length) {
  PageBuffer buffer;
  for (const auto end = offset + length; offset < end;) {
    auto extent = layer == CopyLayer::own ? co_await disk.query(offset, end - offset)
                                          : co_await query_chain(disk, offset, end - offset);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    if (extent->content == Content::parent) {
      co_return false;
    }
    if (extent->content == Content::data) {
      buffer.resize(kMiB);
      const auto bytes = std::span(buffer).first(std::min(kMiB, extent->length));
      auto read = co_await read_bytes(disk, offset, bytes);
      if (!read) {
        co_return std::unexpected(read.error());
      }
      if (!all_zero(bytes)) {
        co_return false;
      }
      offset += bytes.size();
    } else {
      offset += extent->length;
    }
  }
  co_return true;
}

std::unexpected<Error> stopped() { return fail("stopped; run it again to finish"); }

Task<Result<>> copy(Disk& from, Disk& to, CopyOptions options) {
  // While one stretch becomes durable the next is copied: neither the disk nor the processor waits for the other.
  TaskGroup flushing;
  std::array<PageBuffer, kWorkers> buffers;
  Result<> result;
  bool stop = false;
  for (auto at = options.start; result && !stop && at < options.end;) {
    const auto end = std::min(options.end, at + options.checkpoint);
    Copying copying{from, to, options, at, end, at};
    TaskGroup workers;
    for (auto& buffer : buffers) {
      workers.add(copying.work(buffer));
    }
    result = co_await workers.wait();
    stop = copying.stop;
    auto flushed = co_await flushing.wait();
    if (result) {
      result = flushed;
    }
    // Of a large disk most is empty: nothing to make durable, and quick to look through again.
    if (result && !stop && copying.changed) {
      flushing.add(make_durable(to, options, end));
    }
    at = end;
  }
  if (result) {
    result = co_await flushing.wait();
  }
  if (result && stop) {
    co_return stopped();
  }
  co_return result;
}

}  // namespace bulkhead::disk
