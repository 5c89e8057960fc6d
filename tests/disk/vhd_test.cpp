// SPDX-License-Identifier: Apache-2.0
#include "disk/vhd/vhd_disk.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/disk/oracle.hpp"

namespace bulkhead::disk {
namespace {

using vhd::CreateOptions;
using vhd::VhdDisk;

constexpr std::uint64_t kBlock = 512 * kKiB;

std::unique_ptr<VhdDisk> open(File& file) {
  auto disk = now(VhdDisk::open(std::make_unique<BorrowedFile>(file)));
  if (!disk) {
    ADD_FAILURE() << disk.error().message();
    std::abort();
  }
  return std::move(*disk);
}

std::unique_ptr<MemoryFile> make(CreateOptions options) {
  auto file = std::make_unique<MemoryFile>("test.vhd");
  options.block_size = kBlock;
  EXPECT_TRUE(succeeds(now(vhd::create(*file, options))));
  return file;
}

TEST(Vhd, AFixedImageIsTheDiskAndAFooter) {
  auto file = make({.size = 4 * kMiB, .kind = Kind::fixed});
  EXPECT_EQ(file->size(), 4 * kMiB + 512);
  auto disk = open(*file);
  const auto bytes = pattern(kMiB, 1);
  ASSERT_TRUE(succeeds(now(write_bytes(*disk, 3 * kMiB, bytes))));
  std::vector<std::byte> stored(kMiB);
  ASSERT_TRUE(succeeds(now(read_bytes(*file, 3 * kMiB, stored))));
  EXPECT_EQ(stored, bytes);
  EXPECT_FALSE(now(write_bytes(*disk, 4 * kMiB, std::span(bytes).first(512))));
}

TEST(Vhd, AzuresRuleRoundsTheSizeUpToWholeMebibytes) {
  auto file = make({.size = 3 * kMiB + 512, .kind = Kind::fixed, .azure = true});
  EXPECT_EQ(open(*file)->properties().size, 4 * kMiB);
}

TEST(Vhd, ALostFooterAtTheEndIsReplacedByItsCopy) {
  auto file = make({.size = 4 * kMiB});
  const auto bytes = pattern(kMiB, 1);
  {
    auto disk = open(*file);
    ASSERT_TRUE(succeeds(now(write_bytes(*disk, 0, bytes))));
    ASSERT_TRUE(succeeds(now(disk->close())));
  }
  ASSERT_TRUE(succeeds(now(file->zero(file->size() - 512, 512, File::Zeroing::give_space_back))));
  {
    auto disk = open(*file);
    EXPECT_EQ(disk->footer_state(), vhd::FooterState::not_put_away);
    EXPECT_EQ(content(*disk, 0, kMiB), bytes);
    ASSERT_TRUE(succeeds(now(disk->rewrite_footers())));
  }
  EXPECT_EQ(open(*file)->footer_state(), vhd::FooterState::good);
}

TEST(Vhd, GrowsBeyondItsTableAndShrinks) {
  for (const auto kind : {Kind::fixed, Kind::dynamic}) {
    auto file = make({.size = 4 * kMiB, .kind = kind});
    const auto bytes = pattern(4 * kMiB, 1);
    {
      auto disk = open(*file);
      ASSERT_TRUE(succeeds(now(write_bytes(*disk, 0, bytes))));
      ASSERT_TRUE(succeeds(now(disk->resize(200 * kMiB))));
      ASSERT_TRUE(succeeds(now(write_bytes(*disk, 196 * kMiB, bytes))));
      ASSERT_TRUE(succeeds(now(disk->close())));
    }
    {
      auto disk = open(*file);
      EXPECT_EQ(content(*disk, 0, 4 * kMiB), bytes);
      EXPECT_EQ(content(*disk, 4 * kMiB, 192 * kMiB), std::vector<std::byte>(192 * kMiB));
      EXPECT_EQ(content(*disk, 196 * kMiB, 4 * kMiB), bytes);
      ASSERT_TRUE(succeeds(now(disk->resize(3 * kMiB + 512))));
      ASSERT_TRUE(succeeds(now(disk->resize(5 * kMiB))));
    }
    auto disk = open(*file);
    EXPECT_EQ(disk->footer_state(), vhd::FooterState::good);
    EXPECT_EQ(content(*disk, 3 * kMiB + 512, 2 * kMiB - 512), std::vector<std::byte>(2 * kMiB - 512));
  }
}

TEST(Vhd, CompactingMovesBlocksIntoGaps) {
  auto file = make({.size = 16 * kMiB});
  const auto bytes = pattern(kBlock, 1);
  {
    auto disk = open(*file);
    for (std::uint64_t block = 0; block < 32; ++block) {
      ASSERT_TRUE(succeeds(now(write_bytes(*disk, block * kBlock, bytes))));
    }
    for (std::uint64_t block = 0; block < 30; ++block) {
      ASSERT_TRUE(succeeds(now(disk->reset_entry(block))));
    }
    ASSERT_TRUE(succeeds(now(disk->compact({}))));
  }
  EXPECT_LT(file->size(), 3 * (kBlock + 8192));
  auto disk = open(*file);
  EXPECT_EQ(disk->footer_state(), vhd::FooterState::good);
  EXPECT_EQ(content(*disk, 30 * kBlock, kBlock), bytes);
  EXPECT_EQ(content(*disk, 31 * kBlock, kBlock), bytes);
}

struct Chain {
  std::unique_ptr<MemoryFile> parent = make({.size = 3 * kMiB});
  std::unique_ptr<MemoryFile> child;
  std::vector<std::byte> bytes = pattern(3 * kMiB, 7);

  Chain() {
    auto disk = open(*parent);
    EXPECT_TRUE(succeeds(now(write_bytes(*disk, 0, bytes))));
    EXPECT_TRUE(succeeds(now(disk->close())));
    vhd::ParentLocator locator;
    locator.identity = disk->properties().identity;
    locator.relative_path = ".\\parent.vhd";
    locator.absolute_path = "\\srv\\größe\\parent.vhd";
    child = make({.size = 3 * kMiB, .kind = Kind::differencing, .parent = locator});
  }
  std::unique_ptr<VhdDisk> open_child() {
    auto disk = open(*child);
    parent->set_writable(false);
    disk->set_parent(open(*parent));
    return disk;
  }
};

TEST(Vhd, AChildNamesItsParentAndShowsIt) {
  Chain chain;
  auto disk = chain.open_child();
  EXPECT_EQ(disk->locator()->relative_path, ".\\parent.vhd");
  EXPECT_EQ(disk->locator()->absolute_path, "\\srv\\größe\\parent.vhd");
  EXPECT_EQ(content(*disk), chain.bytes);
  auto moved = *disk->locator();
  moved.relative_path = "..\\elsewhere\\parent.vhd";
  ASSERT_TRUE(succeeds(now(disk->set_locator(moved))));
  EXPECT_EQ(chain.open_child()->locator()->relative_path, "..\\elsewhere\\parent.vhd");
  EXPECT_EQ(content(*chain.open_child()), chain.bytes);
}

RC_GTEST_PROP(VhdOracle, FixedImageHoldsWhatWasWritten, ()) {
  auto file = make({.size = 3 * kMiB, .kind = Kind::fixed});
  Oracle oracle([&] { return open(*file); }, std::vector<std::byte>(3 * kMiB));
  for (const auto& operation : *operations(3 * kMiB / 512, kBlock / 512)) {
    oracle.apply(operation);
  }
  oracle.verify();
}

RC_GTEST_PROP(VhdOracle, DynamicImageHoldsWhatWasWritten, ()) {
  const auto size = 2 * kMiB + 5 * 512;
  auto file = make({.size = size});
  Oracle oracle([&] { return open(*file); }, std::vector<std::byte>(size));
  for (const auto& operation : *operations(size / 512, kBlock / 512)) {
    oracle.apply(operation);
  }
  oracle.verify();
}

RC_GTEST_PROP(VhdOracle, ChildHoldsWhatWasWrittenOverItsParent, ()) {
  Chain chain;
  Oracle oracle([&] { return chain.open_child(); }, chain.bytes);
  for (const auto& operation : *operations(chain.bytes.size() / 512, kBlock / 512)) {
    oracle.apply(operation);
  }
  oracle.verify();
}

}  // namespace
}  // namespace bulkhead::disk
