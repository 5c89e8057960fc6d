// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "disk/file/recording_file.hpp"
#include "disk/vhdx/vhdx_disk.hpp"
#include "tests/disk/oracle.hpp"

namespace bulkhead::disk {
namespace {

using vhdx::CreateOptions;
using vhdx::VhdxDisk;

constexpr std::uint64_t kBlock = kMiB;

std::unique_ptr<VhdxDisk> open(File& file) {
  auto disk = now(VhdxDisk::open(std::make_unique<BorrowedFile>(file)));
  if (!disk) {
    ADD_FAILURE() << disk.error().message();
    std::abort();
  }
  return std::move(*disk);
}

std::unique_ptr<MemoryFile> make(CreateOptions options) {
  auto file = std::make_unique<MemoryFile>("test.vhdx");
  if (options.block_size == 0) {
    options.block_size = kBlock;
  }
  EXPECT_TRUE(succeeds(now(vhdx::create(*file, options))));
  return file;
}

vhdx::ParentLocator locator_to(const VhdxDisk& parent) {
  return {{{"parent_linkage", "{" + parent.header().data_write_guid.text() + "}"}, {"relative_path", "parent.vhdx"}}};
}

TEST(Vhdx, ANewImageReadsAsZerosAndTakesNoSpace) {
  auto file = make({.size = 64 * kTiB, .block_size = 32 * kMiB});
  auto disk = open(*file);
  EXPECT_EQ(disk->properties().size, 64 * kTiB);
  EXPECT_EQ(disk->properties().kind, Kind::dynamic);
  EXPECT_EQ(content(*disk, 64 * kTiB - 4096, 4096), std::vector<std::byte>(4096));
  EXPECT_LT(file->bytes().pages(), 100u);
}

TEST(Vhdx, KeepsWhatWasWrittenAcrossClosing) {
  auto file = make({.size = 8 * kMiB});
  const auto bytes = pattern(3 * kMiB, 1);
  {
    auto disk = open(*file);
    ASSERT_TRUE(succeeds(now(write_bytes(*disk, 512 * 1023, bytes))));
    ASSERT_TRUE(succeeds(now(disk->close())));
    EXPECT_TRUE(disk->header().log_guid.is_zero());
  }
  auto disk = open(*file);
  EXPECT_FALSE(disk->was_recovered());
  EXPECT_EQ(content(*disk, 512 * 1023, bytes.size()), bytes);
}

TEST(Vhdx, RecoversAnImageThatWasNotClosed) {
  auto file = make({.size = 8 * kMiB});
  const auto bytes = pattern(3 * kMiB, 1);
  {
    auto disk = open(*file);
    ASSERT_TRUE(succeeds(now(write_bytes(*disk, 0, bytes))));
    ASSERT_TRUE(succeeds(now(disk->flush())));
  }
  file->set_writable(false);
  {
    auto disk = open(*file);  // the log of a read-only image is replayed in memory
    EXPECT_TRUE(disk->was_recovered());
    EXPECT_EQ(content(*disk, 0, bytes.size()), bytes);
  }
  file->set_writable(true);
  auto disk = open(*file);
  EXPECT_TRUE(disk->was_recovered());
  EXPECT_EQ(content(*disk, 0, bytes.size()), bytes);
}

TEST(Vhdx, ManyFlushesGoAroundTheLog) {
  auto file = make({.size = 512 * kMiB, .block_size = kMiB});
  {
    auto disk = open(*file);
    for (std::uint64_t block = 0; block < 512; ++block) {
      ASSERT_TRUE(succeeds(now(write_bytes(*disk, block * kMiB, pattern(512, block)))));
      ASSERT_TRUE(succeeds(now(disk->flush())));
    }
  }
  auto disk = open(*file);
  for (std::uint64_t block = 0; block < 512; ++block) {
    ASSERT_EQ(content(*disk, block * kMiB, 512), pattern(512, block)) << block;
  }
}

TEST(Vhdx, RefusesRequestsThatAreNotWholeSectorsInsideTheDisk) {
  auto file = make({.size = 8 * kMiB, .logical_sector = 4096});
  auto disk = open(*file);
  EXPECT_FALSE(now(write_bytes(*disk, 512, pattern(4096, 1))));
  EXPECT_FALSE(now(write_bytes(*disk, 8 * kMiB, pattern(4096, 1))));
  EXPECT_FALSE(now(disk->zero(~std::uint64_t{4095}, 8192)));
}

TEST(Vhdx, AChangeOfDataChangesTheIdentityOfTheContent) {
  auto file = make({.size = 8 * kMiB});
  auto disk = open(*file);
  const auto before = disk->header();
  ASSERT_TRUE(succeeds(now(disk->flush())));
  EXPECT_EQ(disk->header().file_write_guid, before.file_write_guid);
  ASSERT_TRUE(succeeds(now(write_bytes(*disk, 0, pattern(512, 1)))));
  EXPECT_NE(disk->header().file_write_guid, before.file_write_guid);
  EXPECT_NE(disk->header().data_write_guid, before.data_write_guid);
}

TEST(Vhdx, ADiscardedBlocksSpaceIsUsedAgain) {
  auto file = make({.size = 64 * kMiB});
  auto disk = open(*file);
  ASSERT_TRUE(succeeds(now(write_bytes(*disk, 0, pattern(kMiB, 1)))));
  const auto size = file->size();
  const auto pages = file->bytes().pages();
  for (std::uint64_t round = 0; round < 20; ++round) {
    ASSERT_TRUE(succeeds(now(disk->discard(round * kMiB, kMiB))));
    ASSERT_TRUE(succeeds(now(disk->flush())));
    ASSERT_TRUE(succeeds(now(disk->flush())));
    ASSERT_TRUE(succeeds(now(write_bytes(*disk, (round + 1) * kMiB, pattern(kMiB, 1)))));
  }
  EXPECT_EQ(file->size(), size);
  EXPECT_LT(file->bytes().pages(), pages + 64);
  EXPECT_EQ(content(*disk, 0, 20 * kMiB), std::vector<std::byte>(20 * kMiB));
}

/// A guest may zero all of a large disk in one request; the tables that this changes do not pile up in memory.
TEST(Vhdx, ALongRequestCommitsOnItsWay) {
  constexpr auto kSize = 300 * kGiB;
  auto parent = make({.size = kMiB});
  auto file = make({.size = kSize, .kind = Kind::differencing, .parent = locator_to(*open(*parent))});
  Recording recording;
  RecordingFile recorder(recording, 0, *file);
  auto disk = open(recorder);
  ASSERT_TRUE(succeeds(now(disk->zero(0, kSize))));
  EXPECT_TRUE(std::ranges::any_of(recording.operations(), [](const RecordedOperation& operation) {
    return operation.kind == RecordedOperation::Kind::write && operation.length > 256 * kKiB / 2;
  }));
  EXPECT_EQ(now(disk->query(kSize - kMiB, kMiB)), (Extent{kMiB, Content::zero}));
}

TEST(Vhdx, GrowsBeyondItsTable) {
  auto file = make({.size = 8 * kMiB + 512});
  const auto bytes = pattern(kMiB, 1);
  {
    auto disk = open(*file);
    ASSERT_TRUE(succeeds(now(write_bytes(*disk, 4 * kMiB, bytes))));
    const auto old = disk->regions().bat;
    ASSERT_TRUE(succeeds(now(disk->resize(kTiB))));
    EXPECT_NE(disk->regions().bat.offset, old.offset);
    ASSERT_TRUE(succeeds(now(write_bytes(*disk, kTiB - kMiB, bytes))));
    ASSERT_TRUE(succeeds(now(disk->flush())));
  }
  auto disk = open(*file);
  EXPECT_EQ(disk->properties().size, kTiB);
  EXPECT_EQ(content(*disk, 4 * kMiB, kMiB), bytes);
  EXPECT_EQ(content(*disk, kTiB - kMiB, kMiB), bytes);
}

TEST(Vhdx, WhatWasCutOffDoesNotComeBack) {
  auto file = make({.size = 8 * kMiB});
  auto disk = open(*file);
  ASSERT_TRUE(succeeds(now(write_bytes(*disk, 0, pattern(8 * kMiB, 1)))));
  ASSERT_TRUE(succeeds(now(disk->resize(2 * kMiB + 512))));
  ASSERT_TRUE(succeeds(now(disk->resize(8 * kMiB))));
  EXPECT_EQ(content(*disk, 0, 2 * kMiB + 512), [] {
    auto b = pattern(8 * kMiB, 1);
    b.resize(2 * kMiB + 512);
    return b;
  }());
  EXPECT_EQ(content(*disk, 2 * kMiB + 512, 6 * kMiB - 512), std::vector<std::byte>(6 * kMiB - 512));
}

TEST(Vhdx, CompactingMakesTheFileAsShortAsItsContent) {
  auto file = make({.size = 64 * kMiB});
  {
    auto disk = open(*file);
    for (std::uint64_t block = 0; block < 64; ++block) {
      ASSERT_TRUE(succeeds(now(write_bytes(*disk, block * kMiB, pattern(kMiB, block)))));
    }
    ASSERT_TRUE(succeeds(now(disk->discard(0, 60 * kMiB))));
    ASSERT_TRUE(succeeds(now(disk->compact({}))));
    ASSERT_TRUE(succeeds(now(disk->close())));
  }
  EXPECT_EQ(file->size(), (4 + 4) * kMiB);
  auto disk = open(*file);
  for (std::uint64_t block = 60; block < 64; ++block) {
    EXPECT_EQ(content(*disk, block * kMiB, kMiB), pattern(kMiB, block));
  }
}

TEST(Vhdx, CompactingLeavesNoPlaceToBeGivenOutTwice) {
  auto file = make({.size = 8 * kMiB});
  const auto bytes = pattern(8 * kMiB, 1);
  auto disk = open(*file);
  ASSERT_TRUE(succeeds(now(write_bytes(*disk, 0, bytes))));
  ASSERT_TRUE(succeeds(now(disk->resize(kTiB))));  // now the table lies at the end, so the file cannot be cut
  ASSERT_TRUE(succeeds(now(disk->discard(2 * kMiB, kMiB))));
  for (int flushes = 0; flushes < 3; ++flushes) {
    ASSERT_TRUE(succeeds(now(disk->flush())));
  }
  ASSERT_TRUE(succeeds(now(disk->compact({}))));
  ASSERT_TRUE(succeeds(now(write_bytes(*disk, kGiB, pattern(4 * kMiB, 2)))));
  EXPECT_EQ(content(*disk, 3 * kMiB, 5 * kMiB), std::vector<std::byte>(bytes.begin() + 3 * kMiB, bytes.end()));
  EXPECT_EQ(content(*disk, kGiB, 4 * kMiB), pattern(4 * kMiB, 2));
}

/// An empty child over a parent with content.
struct Chain {
  std::unique_ptr<MemoryFile> parent = make({.size = 6 * kMiB});
  std::unique_ptr<MemoryFile> child;
  std::vector<std::byte> bytes;

  explicit Chain(std::uint32_t sector = 512) {
    parent = make({.size = 6 * kMiB, .logical_sector = sector});
    auto disk = open(*parent);
    bytes = pattern(6 * kMiB, 7);
    EXPECT_TRUE(succeeds(now(write_bytes(*disk, 0, bytes))));
    EXPECT_TRUE(succeeds(now(disk->close())));
    child = make({.size = 6 * kMiB, .kind = Kind::differencing, .logical_sector = sector, .parent = locator_to(*disk)});
  }
  std::unique_ptr<VhdxDisk> open_child() {
    auto disk = open(*child);
    parent->set_writable(false);
    disk->set_parent(open(*parent));
    return disk;
  }
};

TEST(Vhdx, AChildShowsItsParentWhereItHoldsNothing) {
  Chain chain;
  auto disk = chain.open_child();
  EXPECT_EQ(content(*disk), chain.bytes);
  const auto bytes = pattern(1024, 9);
  ASSERT_TRUE(succeeds(now(write_bytes(*disk, kMiB + 512, bytes))));
  std::ranges::copy(bytes, chain.bytes.begin() + static_cast<std::ptrdiff_t>(kMiB + 512));
  EXPECT_EQ(content(*disk), chain.bytes);
  EXPECT_EQ(now(disk->query(kMiB, kMiB)), (Extent{512, Content::parent}));
  EXPECT_EQ(now(disk->query(kMiB + 512, kMiB)), (Extent{1024, Content::data}));
}

TEST(Vhdx, AChildThatHoldsEverythingCanBeCutOffFromItsParent) {
  Chain chain;
  {
    auto disk = chain.open_child();
    EXPECT_FALSE(now(disk->drop_parent()));
    for (std::uint64_t at = 0; at < chain.bytes.size(); at += 64 * kKiB) {
      ASSERT_TRUE(succeeds(now(write_bytes(*disk, at, std::span(chain.bytes).subspan(at, 64 * kKiB)))));
    }
    ASSERT_TRUE(succeeds(now(disk->drop_parent())));
    ASSERT_TRUE(succeeds(now(disk->close())));
  }
  auto disk = open(*chain.child);
  EXPECT_EQ(disk->properties().kind, Kind::dynamic);
  EXPECT_FALSE(disk->metadata().parent.has_value());
  EXPECT_EQ(content(*disk), chain.bytes);
}

RC_GTEST_PROP(VhdxOracle, DynamicImageHoldsWhatWasWritten, ()) {
  auto file = make({.size = 5 * kMiB + 3 * 512});
  const auto size = 5 * kMiB + 3 * 512;
  Oracle oracle([&] { return open(*file); }, std::vector<std::byte>(size));
  for (const auto& operation : *operations(size / 512, kBlock / 512)) {
    oracle.apply(operation);
  }
  oracle.verify();
}

RC_GTEST_PROP(VhdxOracle, FixedImageOf4096ByteSectorsHoldsWhatWasWritten, ()) {
  auto file = make({.size = 5 * kMiB, .kind = Kind::fixed, .logical_sector = 4096});
  Oracle oracle([&] { return open(*file); }, std::vector<std::byte>(5 * kMiB));
  for (const auto& operation : *operations(5 * kMiB / 4096, kBlock / 4096)) {
    oracle.apply(operation);
  }
  oracle.verify();
}

RC_GTEST_PROP(VhdxOracle, ChildHoldsWhatWasWrittenOverItsParent, ()) {
  Chain chain(*rc::gen::element(512u, 4096u));
  Oracle oracle([&] { return chain.open_child(); }, chain.bytes);
  const auto sector = oracle.disk().properties().logical_sector;
  for (const auto& operation : *operations(chain.bytes.size() / sector, kBlock / sector)) {
    oracle.apply(operation);
  }
  oracle.verify();
}

/// Requests that overlap nowhere, all in flight at once, finishing in any order.
RC_GTEST_PROP(VhdxConcurrency, RequestsInFlightDoNotDisturbOneAnother, (std::uint64_t seed, bool child)) {
  Chain chain;
  auto& file = child ? *chain.child : *chain.parent;
  DelayedFile delayed(file, seed);
  auto opened = run(VhdxDisk::open(std::make_unique<BorrowedFile>(delayed)), [&] { delayed.step(); });
  RC_ASSERT(opened.has_value());
  auto& disk = **opened;
  chain.parent->set_writable(!child);
  if (child) {
    disk.set_parent(open(*chain.parent));
  }
  auto expected = chain.bytes;
  std::mt19937_64 random(seed);
  constexpr std::uint64_t kPiece = 16 * 512;
  std::vector<std::vector<std::byte>> contents;
  std::vector<iovec> pieces(expected.size() / kPiece);
  unsigned running = 0;
  std::optional<Error> failure;
  const auto done = [&](Result<> result) {
    --running;
    if (!result) {
      failure = result.error();
    }
  };
  for (std::uint64_t at = 0; at < expected.size(); at += kPiece) {
    const auto range = std::span(expected).subspan(at, kPiece);
    switch (random() % 4) {
      case 0:
      case 1:
        contents.push_back(pattern(kPiece, random()));
        std::ranges::copy(contents.back(), range.begin());
        pieces[at / kPiece] = piece(contents.back());
        ++running;
        start(disk.write(at, Buffers(&pieces[at / kPiece], 1)), done);
        break;
      case 2:
        std::ranges::fill(range, std::byte{0});
        ++running;
        start(disk.zero(at, kPiece), done);
        break;
      default: break;
    }
    if (random() % 32 == 0) {
      ++running;
      start(disk.flush(), done);
    }
    for (auto steps = random() % 8; steps > 0; --steps) {
      delayed.step();
    }
  }
  while (delayed.step()) {
  }
  RC_ASSERT(running == 0u);
  if (failure) {
    RC_FAIL(failure->message());
  }
  std::vector<std::byte> read(expected.size());
  RC_ASSERT(run(read_bytes(disk, 0, read), [&] { delayed.step(); }).has_value());
  RC_ASSERT(read == expected);
  RC_ASSERT(run(disk.close(), [&] { delayed.step(); }).has_value());
}

}  // namespace
}  // namespace bulkhead::disk
