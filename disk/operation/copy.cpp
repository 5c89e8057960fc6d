// SPDX-License-Identifier: Apache-2.0
#include "disk/operation/copy.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

#include "disk/byte_order.hpp"
#include "disk/synchronization.hpp"

namespace bulkhead::disk {
namespace {

constexpr std::uint64_t kPiece = kMiB;
constexpr int kWorkers = 8;
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
  Mutex asking;

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
    auto extent = options.layer == CopyLayer::own ? co_await from.query(next, end - next)
                                                  : co_await query_chain(from, next, end - next);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    const auto most = extent->content == Content::data ? kPiece - next % kPiece : end - next;
    const Part part{next, std::min(extent->length, most), extent->content};
    next += part.length;
    co_return part;
  }

  Task<Result<>> write_data(const Part& part, std::span<std::byte> buffer) {
    const auto bytes = buffer.first(part.length);
    auto result = co_await read_bytes(from, part.offset, bytes);
    for (std::uint64_t at = 0; result && at < part.length;) {
      // Alternate runs of pieces that are zero and pieces that are not.
      const auto grain = [&](std::uint64_t position) {
        return bytes.subspan(position, std::min(kZeroGrain, part.length - position));
      };
      const bool zero = all_zero(grain(at));
      auto run = grain(at).size();
      while (at + run < part.length && all_zero(grain(at + run)) == zero) {
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

  Task<Result<>> work() {
    std::vector<std::byte> buffer(kPiece);
    for (;;) {
      auto part = co_await take();
      if (!part || part->length == 0) {
        co_return part ? Result<>() : std::unexpected(part.error());
      }
      Result<> result;
      if (part->content == Content::data) {
        result = co_await write_data(*part, buffer);
      } else if (options.layer == CopyLayer::own && part->content != Content::parent) {
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

}  // namespace

bool all_zero(std::span<const std::byte> bytes) {
  return bytes.empty() ||
         (bytes[0] == std::byte{0} && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

std::unexpected<Error> stopped() { return fail("stopped; run it again to finish"); }

Task<Result<>> copy(Disk& from, Disk& to, CopyOptions options) {
  for (auto at = options.start; at < options.end;) {
    const auto end = std::min(options.end, at + options.checkpoint);
    Copying copying{from, to, options, at, end, at, false, {}};
    TaskGroup workers;
    for (int i = 0; i < kWorkers; ++i) {
      workers.add(copying.work());
    }
    auto result = co_await workers.wait();
    if (result && copying.stop) {
      co_return stopped();
    }
    if (result) {
      result = co_await to.flush();
    }
    if (result && options.flushed) {
      result = co_await options.flushed(end);
    }
    if (!result) {
      co_return result;
    }
    at = end;
  }
  co_return Result<>();
}

}  // namespace bulkhead::disk
