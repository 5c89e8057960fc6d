// SPDX-License-Identifier: Apache-2.0
// Differencing images and what is done with them, over files in memory.
#include <gtest/gtest.h>

#include "disk/operation/change.hpp"
#include "disk/operation/info.hpp"
#include "disk/vhdx/vhdx_disk.hpp"
#include "tests/disk/stored_images.hpp"

namespace bulkhead::disk {
namespace {

/// base <- middle <- top in one format; each holds a part of its own.
struct ThreeLayers {
  explicit ThreeLayers(const std::string& ending)
      : base("base" + ending), middle("middle" + ending), top("top" + ending) {
    EXPECT_TRUE(succeeds(now(create_image(store, image(base, 6 * kMiB)))));
    write(store, base, 0, pattern(3 * kMiB, 1));
    auto child = image(middle, 0);
    child.parent = base;
    EXPECT_TRUE(succeeds(now(create_image(store, child))));
    write(store, middle, 2 * kMiB, pattern(kMiB + 512, 2));
    child = image(top, 0);
    child.parent = middle;
    EXPECT_TRUE(succeeds(now(create_image(store, child))));
    write(store, top, kMiB - 512, pattern(2048, 3));
    auto disk = open(store, top, for_writing());
    EXPECT_TRUE(succeeds(now(disk->zero(2 * kMiB, kMiB))));
    EXPECT_TRUE(succeeds(now(disk->close())));
    disk.reset();
    expected = content_of(store, top);
  }
  MemoryStore store;
  std::string base;
  std::string middle;
  std::string top;
  std::vector<std::byte> expected;
};

class Chains : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Formats, Chains, testing::Values(".vhd", ".vhdx"),
                         [](const auto& format) { return format.param.substr(1); });

TEST_P(Chains, ShowTheNewestOfEachSector) {
  ThreeLayers layers(GetParam());
  auto expected = pattern(3 * kMiB, 1);
  expected.resize(6 * kMiB);
  std::ranges::copy(pattern(kMiB + 512, 2), expected.begin() + 2 * kMiB);
  std::ranges::copy(pattern(2048, 3), expected.begin() + kMiB - 512);
  std::fill_n(expected.begin() + 2 * kMiB, kMiB, std::byte{0});
  EXPECT_EQ(layers.expected, expected);
  const auto info = now(chain_info(layers.store, layers.top, {}));
  ASSERT_TRUE(succeeds(info));
  ASSERT_EQ(info->images.size(), 3u);
  EXPECT_EQ(info->images[2].path, layers.base);
  EXPECT_FALSE(info->problem);
}

TEST_P(Chains, MergeMovesAChildIntoItsParent) {
  ThreeLayers layers(GetParam());
  ASSERT_TRUE(succeeds(now(merge_image(layers.store, layers.top, {}, MergedChild::remove, {}))));
  EXPECT_FALSE(layers.store.exists(layers.top));
  EXPECT_EQ(content_of(layers.store, layers.middle), layers.expected);
  ASSERT_TRUE(succeeds(now(merge_image(layers.store, layers.middle, {}, MergedChild::remove, {}))));
  EXPECT_EQ(content_of(layers.store, layers.base), layers.expected);
}

TEST_P(Chains, AMergeThatWasStoppedKeepsTheDiskAndGoesOn) {
  ThreeLayers layers(GetParam());
  auto stopped = now(merge_image(layers.store, layers.top, {}, MergedChild::remove, [](auto...) { return false; }));
  EXPECT_FALSE(stopped);
  EXPECT_EQ(content_of(layers.store, layers.top), layers.expected);
  ASSERT_TRUE(succeeds(now(merge_image(layers.store, layers.top, {}, MergedChild::remove, {}))));
  EXPECT_EQ(content_of(layers.store, layers.middle), layers.expected);
}

TEST_P(Chains, FlattenCutsAnImageOff) {
  ThreeLayers layers(GetParam());
  ASSERT_TRUE(succeeds(now(flatten_image(layers.store, layers.top, {}, {}))));
  ASSERT_TRUE(succeeds(layers.store.remove(layers.middle)));
  EXPECT_EQ(content_of(layers.store, layers.top), layers.expected);
  EXPECT_EQ(open(layers.store, layers.top)->properties().kind, Kind::dynamic);
}

TEST_P(Chains, RebaseKeepsTheContent) {
  ThreeLayers layers(GetParam());
  ASSERT_TRUE(succeeds(now(rebase_image(layers.store, layers.top, {}, layers.base, Rebasing::copy, {}))));
  ASSERT_TRUE(succeeds(layers.store.remove(layers.middle)));
  EXPECT_EQ(content_of(layers.store, layers.top), layers.expected);
}

TEST_P(Chains, AMovedParentIsReconnected) {
  ThreeLayers layers(GetParam());
  const auto moved = "moved" + GetParam();
  ASSERT_TRUE(succeeds(layers.store.rename(layers.middle, moved)));
  EXPECT_FALSE(now(open_disk(layers.store, layers.top)));
  EXPECT_FALSE(now(rebase_image(layers.store, layers.top, {}, layers.base, Rebasing::reconnect, {})));
  ASSERT_TRUE(succeeds(now(rebase_image(layers.store, layers.top, {}, moved, Rebasing::reconnect, {}))));
  EXPECT_EQ(content_of(layers.store, layers.top), layers.expected);
}

TEST(Chain, AParentThatChangedIsRefused) {
  ThreeLayers layers(".vhdx");
  auto options = for_writing();
  options.with_parents = false;
  {
    auto disk = open(layers.store, layers.base, options);
    ASSERT_TRUE(succeeds(now(write_bytes(*disk, 0, pattern(512, 9)))));
    ASSERT_TRUE(succeeds(now(disk->close())));
  }
  const auto opened = now(open_disk(layers.store, layers.top));
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().message(), "'base.vhdx' is not the parent of 'middle.vhdx', or it has changed since");
  const auto info = now(chain_info(layers.store, layers.top, {}));
  ASSERT_TRUE(succeeds(info));
  EXPECT_EQ(info->images.size(), 2u);
  EXPECT_TRUE(info->problem);
}

TEST(Chain, AnImageAmongItsOwnParentsIsRefused) {
  MemoryStore store;
  ASSERT_TRUE(succeeds(now(create_image(store, image("a.vhdx", 4 * kMiB)))));
  auto child = image("b.vhdx", 0);
  child.parent = "a.vhdx";
  ASSERT_TRUE(succeeds(now(create_image(store, child))));
  {
    // The child becomes its own parent: its identity is its own, and so is its path.
    auto opened = open(store, "b.vhdx", for_writing());
    auto& disk = dynamic_cast<vhdx::VhdxDisk&>(*opened);
    auto metadata = disk.metadata();
    metadata.parent->values["parent_linkage"] = "{" + disk.header().data_write_guid.text() + "}";
    metadata.parent->values["relative_path"] = "b.vhdx";
    ASSERT_TRUE(succeeds(now(disk.set_metadata(metadata))));
    ASSERT_TRUE(succeeds(now(disk.close())));
  }
  const auto opened = now(open_disk(store, "b.vhdx"));
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message().find("is among its own"), std::string::npos);
}

/// What Hyper-V wrote down is of no use here but for the name.
TEST(Chain, AParentThatAWindowsPathNamesIsFoundBesideItsChild) {
  ThreeLayers layers(".vhdx");
  const std::map<std::string, std::string> windows = {
      {"absolute_win32_path", R"(\\?\C:\Disks\middle.vhdx)"},
      {"volume_path", R"(\\?\Volume{26A21BDA-A627-11D7-9931-806E6F6E6963}\Disks\middle.vhdx)"},
      {"relative_path", R"(.\middle.vhdx)"}};
  for (const auto& [key, value] : windows) {
    auto options = for_writing();
    options.with_parents = false;
    auto opened = open(layers.store, layers.top, options);
    auto& disk = dynamic_cast<vhdx::VhdxDisk&>(*opened);
    auto metadata = disk.metadata();
    metadata.parent->values = {{"parent_linkage", *metadata.parent->value("parent_linkage")}, {key, value}};
    ASSERT_TRUE(succeeds(now(disk.set_metadata(metadata))));
    ASSERT_TRUE(succeeds(now(disk.close())));
    opened.reset();
    EXPECT_EQ(content_of(layers.store, layers.top), layers.expected) << key;
  }
}

TEST_P(Chains, AParentIsLookedForWhereverTheImageSaysItMayBe) {
  ThreeLayers layers(GetParam());
  const auto elsewhere = "elsewhere" + GetParam();
  ASSERT_TRUE(succeeds(layers.store.rename(layers.middle, elsewhere)));
  ASSERT_TRUE(succeeds(now(rebase_image(layers.store, layers.top, {}, elsewhere, Rebasing::reconnect, {}))));
  // Another image takes the parent's place; the right one is where the absolute path says.
  ASSERT_TRUE(succeeds(layers.store.rename(elsewhere, "/" + elsewhere)));
  ASSERT_TRUE(succeeds(now(create_image(layers.store, image(elsewhere, 6 * kMiB)))));
  EXPECT_EQ(content_of(layers.store, layers.top), layers.expected);
}

/// What a disk loses when it shrinks does not come back when it grows, from below it neither.
TEST_P(Chains, AChildThatShrankAndGrewShowsZeros) {
  for (const std::uint64_t size : {2 * kMiB, 2 * kMiB + 1024}) {
    ThreeLayers layers(GetParam());
    auto options = for_writing();
    {
      auto disk = open(layers.store, layers.top, options);
      ASSERT_TRUE(succeeds(now(disk->zero(size, 6 * kMiB - size))));
      ASSERT_TRUE(succeeds(now(disk->close())));
    }
    ASSERT_TRUE(succeeds(now(resize_image(layers.store, layers.top, {}, size))));
    ASSERT_TRUE(succeeds(now(resize_image(layers.store, layers.top, {}, 9 * kMiB))));
    auto expected = layers.expected;
    expected.resize(size);
    expected.resize(9 * kMiB);
    EXPECT_EQ(content_of(layers.store, layers.top), expected) << size;
    // A merge carries the larger disk down to where it must hide the same of the base.
    ASSERT_TRUE(succeeds(now(merge_image(layers.store, layers.top, {}, MergedChild::remove, {}))));
    EXPECT_EQ(content_of(layers.store, layers.middle), expected) << size;
  }
}

}  // namespace
}  // namespace bulkhead::disk
