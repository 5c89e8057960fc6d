// SPDX-License-Identifier: Apache-2.0
// Operations on images and chains, over files in memory.
#include <gtest/gtest.h>

#include "disk/operation/change.hpp"
#include "disk/operation/check.hpp"
#include "disk/operation/convert.hpp"
#include "disk/operation/info.hpp"
#include "disk/vhdx/vhdx_disk.hpp"
#include "tests/disk/memory_store.hpp"

namespace bulkhead::disk {
namespace {

OpenOptions for_writing() {
  OpenOptions options;
  options.access = ImageStore::Access::write;
  return options;
}

std::unique_ptr<Disk> open(ImageStore& store, const std::string& path, OpenOptions options = {}) {
  auto disk = now(open_disk(store, path, options));
  EXPECT_TRUE(succeeds(disk));
  return disk ? std::move(*disk) : nullptr;
}

NewImage image(const std::string& path, std::uint64_t size, Kind kind = Kind::dynamic) {
  NewImage made;
  made.path = path;
  made.size = size;
  made.kind = kind;
  made.block = format_of_name(path) == Format::vhdx ? 1 << 20 : 0;
  return made;
}

void write(ImageStore& store, const std::string& path, std::uint64_t offset, std::span<const std::byte> bytes) {
  auto disk = open(store, path, for_writing());
  ASSERT_TRUE(disk);
  EXPECT_TRUE(succeeds(now(write_bytes(*disk, offset, bytes))));
  EXPECT_TRUE(succeeds(now(disk->close())));
}

std::vector<std::byte> content_of(ImageStore& store, const std::string& path) {
  auto disk = open(store, path);
  return disk ? content(*disk) : std::vector<std::byte>();
}

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
  ASSERT_TRUE(succeeds(now(merge_image(layers.store, layers.top, MergedChild::remove, {}))));
  EXPECT_FALSE(layers.store.exists(layers.top));
  EXPECT_EQ(content_of(layers.store, layers.middle), layers.expected);
  ASSERT_TRUE(succeeds(now(merge_image(layers.store, layers.middle, MergedChild::remove, {}))));
  EXPECT_EQ(content_of(layers.store, layers.base), layers.expected);
}

TEST_P(Chains, AMergeThatWasStoppedKeepsTheDiskAndGoesOn) {
  ThreeLayers layers(GetParam());
  auto stopped = now(merge_image(layers.store, layers.top, MergedChild::remove, [](auto...) { return false; }));
  EXPECT_FALSE(stopped);
  EXPECT_EQ(content_of(layers.store, layers.top), layers.expected);
  ASSERT_TRUE(succeeds(now(merge_image(layers.store, layers.top, MergedChild::remove, {}))));
  EXPECT_EQ(content_of(layers.store, layers.middle), layers.expected);
}

TEST_P(Chains, FlattenCutsAnImageOff) {
  ThreeLayers layers(GetParam());
  ASSERT_TRUE(succeeds(now(flatten_image(layers.store, layers.top, {}))));
  ASSERT_TRUE(succeeds(layers.store.remove(layers.middle)));
  EXPECT_EQ(content_of(layers.store, layers.top), layers.expected);
  EXPECT_EQ(open(layers.store, layers.top)->properties().kind, Kind::dynamic);
}

TEST_P(Chains, RebaseKeepsTheContent) {
  ThreeLayers layers(GetParam());
  ASSERT_TRUE(succeeds(now(rebase_image(layers.store, layers.top, layers.base, Rebasing::copy, {}))));
  ASSERT_TRUE(succeeds(layers.store.remove(layers.middle)));
  EXPECT_EQ(content_of(layers.store, layers.top), layers.expected);
}

TEST_P(Chains, AMovedParentIsReconnected) {
  ThreeLayers layers(GetParam());
  const auto moved = "moved" + GetParam();
  ASSERT_TRUE(succeeds(layers.store.rename(layers.middle, moved)));
  EXPECT_FALSE(now(open_disk(layers.store, layers.top)));
  EXPECT_FALSE(now(rebase_image(layers.store, layers.top, layers.base, Rebasing::reconnect, {})));
  ASSERT_TRUE(succeeds(now(rebase_image(layers.store, layers.top, moved, Rebasing::reconnect, {}))));
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

TEST(Resize, RefusesToCutData) {
  for (const std::string path : {"disk.raw", "disk.vhd", "disk.vhdx"}) {
    MemoryStore store;
    ASSERT_TRUE(succeeds(now(create_image(store, image(path, 8 * kMiB)))));
    write(store, path, 4 * kMiB, pattern(512, 1));
    const auto cut = now(resize_image(store, path, {}, 4 * kMiB));
    ASSERT_FALSE(cut) << path;
    EXPECT_NE(cut.error().message().find("there is data behind that"), std::string::npos);
    EXPECT_TRUE(succeeds(now(resize_image(store, path, {}, 4 * kMiB + 512))));
    EXPECT_TRUE(succeeds(now(resize_image(store, path, {}, 80 * kMiB))));
    auto expected = std::vector<std::byte>(80 * kMiB);
    std::ranges::copy(pattern(512, 1), expected.begin() + 4 * kMiB);
    EXPECT_EQ(content_of(store, path), expected) << path;
  }
}

TEST(Compact, GivesBackBlocksOfZeros) {
  for (const std::string path : {"disk.vhd", "disk.vhdx"}) {
    MemoryStore store;
    ASSERT_TRUE(succeeds(now(create_image(store, image(path, 32 * kMiB)))));
    write(store, path, 0, pattern(32 * kMiB, 1));
    const std::vector<std::byte> zeros(24 * kMiB);
    write(store, path, 2 * kMiB, zeros);
    const auto expected = content_of(store, path);
    ASSERT_TRUE(succeeds(now(compact_image(store, path, {}, {}))));
    EXPECT_LT(store.file(path).size(), 16 * kMiB) << path;
    EXPECT_EQ(content_of(store, path), expected);
    const auto report = now(check_image(store, path, {}, Repairing::no));
    ASSERT_TRUE(succeeds(report));
    EXPECT_TRUE(report->clean());
  }
}

TEST(Convert, KeepsTheContentFromEveryFormatToEveryOther) {
  const auto source_bytes = [] {
    auto bytes = pattern(7 * kMiB, 5);
    std::fill_n(bytes.begin() + 2 * kMiB + 512, 3 * kMiB, std::byte{0});
    return bytes;
  }();
  for (const std::string from : {"from.raw", "from.vhd", "from.vhdx"}) {
    for (const std::string to : {"to.raw", "to.vhd", "to.vhdx"}) {
      for (const auto kind : {Kind::fixed, Kind::dynamic}) {
        MemoryStore store;
        ASSERT_TRUE(succeeds(now(create_image(store, image(from, source_bytes.size())))));
        write(store, from, 0, source_bytes);
        Conversion conversion;
        conversion.source = from;
        conversion.target = image(to, 0, kind);
        ASSERT_TRUE(succeeds(now(convert(store, conversion)))) << from << " to " << to;
        EXPECT_EQ(content_of(store, to), source_bytes) << from << " to " << to;
        EXPECT_EQ(store.names(), (std::vector<std::string>{from, to}));
      }
    }
  }
}

TEST(Convert, GoesOnWhereItWasStopped) {
  MemoryStore store;
  ASSERT_TRUE(succeeds(now(create_image(store, image("from.vhdx", 16 * kMiB)))));
  write(store, "from.vhdx", 0, pattern(16 * kMiB, 5));
  Conversion conversion;
  conversion.source = "from.vhdx";
  conversion.target = image("to.vhdx", 0);
  conversion.checkpoint = 4 * kMiB;
  std::uint64_t copied = 0;
  conversion.progress = [&](std::uint64_t done, std::uint64_t) {
    copied = done;
    return done < 9 * kMiB;
  };
  EXPECT_FALSE(now(convert(store, conversion)));
  EXPECT_FALSE(store.exists("to.vhdx"));
  std::uint64_t first = 0;
  conversion.progress = [&](std::uint64_t done, std::uint64_t) {
    first = first == 0 ? done : first;
    return true;
  };
  ASSERT_TRUE(succeeds(now(convert(store, conversion))));
  EXPECT_GT(first, 8 * kMiB);
  EXPECT_EQ(content_of(store, "to.vhdx"), pattern(16 * kMiB, 5));
}

TEST(Check, FindsAndRepairsADamagedHeader) {
  MemoryStore store;
  ASSERT_TRUE(succeeds(now(create_image(store, image("disk.vhdx", 8 * kMiB)))));
  ASSERT_TRUE(succeeds(now(store.file("disk.vhdx").zero(64 * kKiB, 512, File::Zeroing::give_space_back))));
  ASSERT_TRUE(succeeds(now(store.file("disk.vhdx").zero(192 * kKiB, 512, File::Zeroing::give_space_back))));
  auto report = now(check_image(store, "disk.vhdx", {}, Repairing::no));
  ASSERT_TRUE(succeeds(report));
  EXPECT_FALSE(report->clean());
  EXPECT_EQ(report->findings.size(), 2u);
  report = now(check_image(store, "disk.vhdx", {}, Repairing::yes));
  ASSERT_TRUE(succeeds(report));
  EXPECT_TRUE(report->clean());
  report = now(check_image(store, "disk.vhdx", {}, Repairing::no));
  ASSERT_TRUE(succeeds(report));
  EXPECT_TRUE(report->findings.empty());
}

TEST(Check, FindsBlocksThatOverlapOrLieOutside) {
  MemoryStore store;
  ASSERT_TRUE(succeeds(now(create_image(store, image("disk.vhdx", 8 * kMiB)))));
  write(store, "disk.vhdx", 0, pattern(2 * kMiB, 1));
  const auto set_entry = [&](std::uint64_t index, std::uint64_t raw) {
    const vhdx::U64 value = raw;
    ASSERT_TRUE(succeeds(now(write_bytes(store.file("disk.vhdx"), 3 * kMiB + index * 8, bytes_of(value)))));
  };
  set_entry(1, 4 * kMiB | 6);      // where block 0 is
  set_entry(2, (1ull << 40) | 6);  // outside of the file
  set_entry(3, 2 * kMiB | 6);      // over the metadata
  const auto report = now(check_image(store, "disk.vhdx", {}, Repairing::no));
  ASSERT_TRUE(succeeds(report));
  EXPECT_EQ(report->findings.size(), 3u);
  auto disk = open(store, "disk.vhdx");
  std::vector<std::byte> bytes(512);
  EXPECT_FALSE(now(read_bytes(*disk, 2 * kMiB, bytes)));
  EXPECT_FALSE(now(read_bytes(*disk, 3 * kMiB, bytes)));
}

TEST(Lock, TwoWritersOfOneImageAreRefused) {
  MemoryStore store;
  ASSERT_TRUE(succeeds(now(create_image(store, image("disk.vhdx", 8 * kMiB)))));
  auto first = open(store, "disk.vhdx", for_writing());
  EXPECT_FALSE(now(open_disk(store, "disk.vhdx", for_writing())));
  EXPECT_FALSE(now(open_disk(store, "disk.vhdx")));
}

}  // namespace
}  // namespace bulkhead::disk
