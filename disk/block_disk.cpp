// SPDX-License-Identifier: Apache-2.0
#include "disk/block_disk.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "disk/byte_order.hpp"

namespace bulkhead::disk {

std::unexpected<Error> BlockDisk::damaged(std::string what) const {
  return fail(fmt::format("'{}' is damaged: {}", name(), std::move(what)));
}

Result<> BlockDisk::may_change() const {
  if (broken_) {
    return std::unexpected(broken_->within("nothing can be written any more"));
  }
  if (!properties_.writable) {
    return fail(fmt::format("cannot write to '{}': it was opened for reading", name()));
  }
  return {};
}

BlockPart BlockDisk::first_part(std::uint64_t offset, std::uint64_t length) const {
  const auto within = offset % block_size();
  return {offset / block_size(), within, std::min(length, block_size() - within)};
}

Task<Result<>> BlockDisk::read(std::uint64_t offset, Buffers buffers) {
  const auto length = total_length(buffers);
  auto allowed = check_request(*this, offset, length);
  if (!allowed || length == 0) {
    co_return allowed;
  }
  const auto part = first_part(offset, length);
  if (part.length == length) {
    co_return co_await read_block(part, buffers);
  }
  co_return co_await for_each_block(offset, buffers, &BlockDisk::read_block);
}

Task<Result<>> BlockDisk::write(std::uint64_t offset, Buffers buffers) {
  const auto length = total_length(buffers);
  auto allowed = check_request(*this, offset, length);
  if (allowed) {
    allowed = co_await prepare_write();
  }
  if (!allowed || length == 0) {
    co_return allowed;
  }
  const auto part = first_part(offset, length);
  if (part.length == length) {
    co_return co_await write_block(part, buffers);
  }
  co_return co_await for_each_block(offset, buffers, &BlockDisk::write_block);
}

Task<Result<>> BlockDisk::for_each_block(std::uint64_t offset, Buffers buffers, Transfer transfer) {
  const auto length = total_length(buffers);
  TaskGroup parts;
  for (std::uint64_t done = 0; done < length;) {
    const auto part = first_part(offset + done, length - done);
    parts.add(transfer_window(part, slice(buffers, done, part.length), transfer));
    done += part.length;
  }
  co_return co_await parts.wait();
}

Task<Result<>> BlockDisk::transfer_window(BlockPart part, std::vector<iovec> window, Transfer transfer) {
  co_return co_await (this->*transfer)(part, window);
}

Task<Result<>> BlockDisk::change_each_block(std::uint64_t offset, std::uint64_t length, Change change) {
  auto done = check_request(*this, offset, length);
  while (done && length > 0) {
    const auto part = first_part(offset, length);
    done = co_await prepare_write();
    if (done) {
      done = co_await (this->*change)(part);
    }
    offset += part.length;
    length -= part.length;
  }
  co_return done;
}

Task<Result<>> BlockDisk::zero(std::uint64_t offset, std::uint64_t length) {
  return change_each_block(offset, length, &BlockDisk::zero_block);
}

Task<Result<>> BlockDisk::discard(std::uint64_t offset, std::uint64_t length) {
  return change_each_block(offset, length, &BlockDisk::discard_block);
}

Task<Result<Extent>> BlockDisk::query(std::uint64_t offset, std::uint64_t length) {
  if (auto allowed = check_request(*this, offset, length); !allowed) {
    co_return std::unexpected(allowed.error());
  }
  constexpr int kMostBlocks = 4096;  // bounds the time of one call
  std::optional<Extent> run;
  for (int i = 0; i < kMostBlocks && length > 0; ++i) {
    const auto part = first_part(offset, length);
    auto extent = co_await query_block(part);
    if (!extent && !run) {
      co_return extent;
    }
    if (!extent || (run && run->content != extent->content)) {
      break;  // an error is met again by whoever asks from there
    }
    run = run ? Extent{run->length + extent->length, run->content} : *extent;
    offset += extent->length;
    length -= extent->length;
    if (extent->length < part.length) {
      break;
    }
    if (length > 0 && extent->content != Content::data) {  // most of a large disk is absent
      const auto absent = co_await absent_from(part.block);
      if (absent && absent->blocks > 1 && absent->content == extent->content) {
        const auto more = std::min(length, (absent->blocks - 1) * block_size());
        run->length += more;
        offset += more;
        length -= more;
      }
    }
  }
  co_return run.value_or(Extent{0, Content::hole});
}

Task<Result<BlockDisk::Absent>> BlockDisk::absent_from(std::uint64_t) { co_return Absent{}; }

Task<Result<>> BlockDisk::read_mixed(BlockPart part, std::uint64_t place, Buffers buffers) {
  TaskGroup parts;
  Result<> found;
  for (std::uint64_t done = 0; done < part.length;) {
    const auto run = co_await present_run({part.block, part.within + done, part.length - done});
    if (!run) {
      found = std::unexpected(run.error());
      break;
    }
    auto window = slice(buffers, done, run->length);
    if (run->present) {
      parts.add(read_file_window(place + part.within + done, std::move(window)));
    } else {
      parts.add(read_parent_window(part.block * block_size() + part.within + done, std::move(window)));
    }
    done += run->length;
  }
  auto read = co_await parts.wait();
  co_return found ? read : found;
}

Task<Result<>> BlockDisk::read_file_window(std::uint64_t offset, std::vector<iovec> window) {
  co_return co_await active_->read(offset, window);
}

Task<Result<>> BlockDisk::read_parent_window(std::uint64_t offset, std::vector<iovec> window) {
  co_return co_await read_parent(offset, window);
}

Task<Result<>> BlockDisk::read_parent(std::uint64_t offset, Buffers buffers) {
  if (!parent_) {
    co_return fail(fmt::format("'{}' was opened without its parent", name()));
  }
  co_return co_await read_padded(*parent_, offset, buffers);
}

std::uint64_t BlockDisk::over_parent(std::uint64_t block) const {
  if (!has_parent()) {
    return 0;
  }
  const auto end = parent_ ? parent_->properties().size : ~std::uint64_t{0};
  const auto start = block * block_size();
  return end <= start ? 0 : std::min(end - start, block_size());
}

Task<Result<>> BlockDisk::flush() {
  if (broken_) {
    co_return std::unexpected(broken_->within("nothing can be written any more"));
  }
  if (!properties_.writable) {
    co_return Result<>();
  }
  const auto ticket = ++flushes_asked_;
  auto held = co_await flushing_.lock();
  if (broken_) {  // by the one before: what it lost a second one would not know of
    co_return std::unexpected(broken_->within("nothing can be written any more"));
  }
  if (flushes_done_ >= ticket) {
    co_return Result<>();  // one that began after this was asked for has ended
  }
  const auto covered = flushes_asked_;
  auto done = co_await flush_now();
  if (done) {
    flushes_done_ = covered;
  } else {
    broken_ = done.error();
  }
  co_return done;
}

Task<Result<Extent>> query_stored(File& file, std::uint64_t offset, std::uint64_t length, std::uint32_t sector) {
  auto stored = co_await file.query(offset, length);
  if (!stored) {
    co_return std::unexpected(stored.error());
  }
  // A hole may end inside a sector (file systems with odd block sizes); the sector counts as data then.
  if (stored->hole && stored->length < length) {
    const auto whole = stored->length / sector * sector;
    co_return whole > 0 ? Extent{whole, Content::hole} : Extent{sector, Content::data};
  }
  co_return Extent{std::min(length, align_up(stored->length, sector)), stored->hole ? Content::hole : Content::data};
}

}  // namespace bulkhead::disk
