// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "disk/disk.hpp"
#include "disk/operation/progress.hpp"

namespace bulkhead::disk {

/// Which bytes of the source are copied.
enum class CopyLayer {
  chain,  // what reads give; where they give nothing, the target stays as it is (it is empty)
  own,    // what this image alone holds; zeros and holes of it become zeros of the target
};

/// Makes `to` hold what `from` holds in [start, end), many requests at a time, leaving holes and runs of zeros out.
/// Every `checkpoint` bytes are flushed while the next are copied, and then `flushed` is called with how far everything is
/// durable.
struct CopyOptions {
  CopyLayer layer = CopyLayer::chain;
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t checkpoint = 256 << 20;
  std::function<Task<Result<>>(std::uint64_t)> flushed;
  Progress progress;
};
Task<Result<>> copy(Disk& from, Disk& to, CopyOptions options);

/// The error of an operation whose Progress said stop.
std::unexpected<Error> stopped();

bool all_zero(std::span<const std::byte> bytes);

/// Whether [offset, offset + length) is zeros: as it reads, or (CopyLayer::own) in this image alone, with nothing of it
/// left to the parent.
Task<Result<bool>> holds_zeros(Disk& disk, CopyLayer layer, std::uint64_t offset, std::uint64_t length);

}  // namespace bulkhead::disk
