// SPDX-License-Identifier: Apache-2.0
//
// Random operations on a disk, and on a plain array that says what the disk must hold.
#pragma once

#include <rapidcheck.h>

#include <functional>
#include <memory>

#include "tests/disk/test_files.hpp"

#include <cstdlib>

namespace bulkhead::disk {

/// A quick run tries few cases of each property; RC_PARAMS="max_success=1000" in the environment tries more.
inline const int kFewCases = ::setenv("RC_PARAMS", "max_success=8 max_size=30", 0);

struct Operation {
  enum class Kind { write, zero, discard, flush, close, drop, query };
  Kind kind;
  std::uint64_t first;  // sector
  std::uint64_t count;
  std::uint64_t seed;
};

inline std::ostream& operator<<(std::ostream& out, const Operation& operation) {
  static const char* const kNames[] = {"write", "zero", "discard", "flush", "close", "drop", "query"};
  return out << kNames[static_cast<int>(operation.kind)] << ' ' << operation.first << '+' << operation.count;
}

/// Operations on a disk of `sectors`, short ones and ones of whole blocks.
inline rc::Gen<std::vector<Operation>> operations(std::uint64_t sectors, std::uint64_t block_sectors) {
  const auto one = rc::gen::map(
      rc::gen::tuple(rc::gen::weightedElement<Operation::Kind>({{8, Operation::Kind::write},
                                                                {2, Operation::Kind::zero},
                                                                {2, Operation::Kind::discard},
                                                                {2, Operation::Kind::flush},
                                                                {1, Operation::Kind::close},
                                                                {1, Operation::Kind::drop},
                                                                {2, Operation::Kind::query}}),
                     rc::gen::inRange<std::uint64_t>(0, sectors), rc::gen::inRange<std::uint64_t>(1, 3 * block_sectors),
                     rc::gen::inRange(0, 4), rc::gen::arbitrary<std::uint16_t>()),
      [=](const std::tuple<Operation::Kind, std::uint64_t, std::uint64_t, int, std::uint16_t>& drawn) {
        auto [kind, first, count, shape, seed] = drawn;
        if (shape == 0) {  // whole blocks
          first = first / block_sectors * block_sectors;
          count = (count + block_sectors - 1) / block_sectors * block_sectors;
        } else if (shape == 1) {
          count = count % 9 + 1;
        }
        return Operation{kind, first, std::min(count, sectors - first), seed};
      });
  return rc::gen::container<std::vector<Operation>>(one);
}

class Oracle {
 public:
  using Open = std::function<std::unique_ptr<Disk>()>;

  Oracle(Open open, std::vector<std::byte> expected)
      : open_(std::move(open)), disk_(open_()), expected_(std::move(expected)) {}

  void apply(const Operation& operation) {
    const auto sector = disk_->properties().logical_sector;
    const auto offset = operation.first * sector;
    const auto length = operation.count * sector;
    const auto range = std::span(expected_).subspan(offset, length);
    switch (operation.kind) {
      case Operation::Kind::write: {
        const auto bytes = pattern(length, operation.seed);
        // In pieces of odd sizes, to exercise scattered memory.
        const auto middle = length / 3;
        const iovec parts[] = {piece(std::span(bytes).first(middle)), piece(std::span(bytes).subspan(middle))};
        check(now(disk_->write(offset, parts)));
        std::ranges::copy(bytes, range.begin());
        break;
      }
      case Operation::Kind::zero:
        check(now(disk_->zero(offset, length)));
        std::ranges::fill(range, std::byte{0});
        break;
      case Operation::Kind::discard: {
        check(now(disk_->discard(offset, length)));
        const auto after = content(*disk_, offset, length);
        for (std::size_t at = 0; at < length; at += sector) {
          const auto now_there = std::span(after).subspan(at, sector);
          const bool zero = std::ranges::all_of(now_there, [](std::byte b) { return b == std::byte{0}; });
          RC_ASSERT(zero || std::ranges::equal(now_there, range.subspan(at, sector)));
        }
        std::ranges::copy(after, range.begin());
        break;
      }
      case Operation::Kind::flush: check(now(disk_->flush())); break;
      case Operation::Kind::close:
        check(now(disk_->close()));
        reopen();
        break;
      case Operation::Kind::drop:  // what a process that is killed leaves, after a flush
        check(now(disk_->flush()));
        reopen();
        break;
      case Operation::Kind::query: query(offset, length); break;
    }
  }

  void verify() { RC_ASSERT(content(*disk_) == expected_); }
  Disk& disk() { return *disk_; }
  const std::vector<std::byte>& expected() const { return expected_; }
  void reopen() {
    disk_.reset();
    disk_ = open_();
  }

 private:
  static void check(const Result<>& result) {
    if (!result) {
      RC_FAIL(result.error().message());
    }
  }

  void query(std::uint64_t offset, std::uint64_t length) {
    const auto end = offset + length;
    while (offset < end) {
      auto extent = now(query_chain(*disk_, offset, end - offset));
      RC_ASSERT(extent.has_value());
      RC_ASSERT(extent->length > 0u);
      RC_ASSERT(extent->length <= end - offset);
      if (extent->content != Content::data) {
        RC_ASSERT(std::ranges::all_of(std::span(expected_).subspan(offset, extent->length),
                                      [](std::byte b) { return b == std::byte{0}; }));
      }
      offset += extent->length;
    }
  }

  Open open_;
  std::unique_ptr<Disk> disk_;
  std::vector<std::byte> expected_;
};

}  // namespace bulkhead::disk
