// SPDX-License-Identifier: Apache-2.0
// Operations on single images, over files in memory.
#include <gtest/gtest.h>

#include "disk/operation/change.hpp"
#include "disk/operation/check.hpp"
#include "disk/operation/convert.hpp"
#include "disk/vhdx/vhdx_disk.hpp"
#include "tests/disk/stored_images.hpp"

namespace bulkhead::disk {
namespace {

TEST(Create, RefusesOptionsThatTheFormatHasNoPlaceFor) {
  MemoryStore store;
  auto wanted = image("disk.raw", kMiB);
  wanted.azure = true;
  EXPECT_EQ(now(create_image(store, wanted)).error().message(),
            "cannot make 'disk.raw': Azure's rule is for VHD images");
  wanted = image("disk.vhd", kMiB);
  wanted.logical_sector = 4096;
  EXPECT_EQ(now(create_image(store, wanted)).error().message(),
            "cannot make 'disk.vhd': a vhd image has sectors of 512 bytes");
  wanted = image("disk.raw", kMiB);
  wanted.block = 1 << 20;
  EXPECT_EQ(now(create_image(store, wanted)).error().message(), "cannot make 'disk.raw': a raw image has no blocks");
  EXPECT_TRUE(store.names().empty());
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

TEST(Convert, FillsLargerSectorsFromWhatIsCutFiner) {
  // A child's bitmap cuts its content at 512 bytes, and its end is no whole sector of 4096 bytes.
  const auto size = 3 * kMiB + 512;
  MemoryStore store;
  ASSERT_TRUE(succeeds(now(create_image(store, image("base.vhdx", size)))));
  write(store, "base.vhdx", kMiB, pattern(2 * kMiB + 512, 1));
  auto child = image("from.vhdx", 0);
  child.parent = "base.vhdx";
  ASSERT_TRUE(succeeds(now(create_image(store, child))));
  for (const std::uint64_t at : {512 * kKiB + 512, kMiB + 1536, 2 * kMiB - 512}) {
    write(store, "from.vhdx", at, pattern(1024, at));
  }
  auto expected = content_of(store, "from.vhdx");
  expected.resize(3 * kMiB + 4096);
  Conversion conversion;
  conversion.source = "from.vhdx";
  conversion.target = image("to.vhdx", 0);
  conversion.target.logical_sector = 4096;
  ASSERT_TRUE(succeeds(now(convert(store, conversion))));
  EXPECT_EQ(content_of(store, "to.vhdx"), expected);
  EXPECT_EQ(open(store, "to.vhdx")->properties().logical_sector, 4096u);
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

TEST(Check, ABlockWithoutItsSectorBitmapIsFound) {
  MemoryStore store;
  ASSERT_TRUE(succeeds(now(create_image(store, image("base.vhdx", 8 * kMiB)))));
  auto child = image("disk.vhdx", 0);
  child.parent = "base.vhdx";
  ASSERT_TRUE(succeeds(now(create_image(store, child))));
  write(store, "disk.vhdx", 0, pattern(512, 1));
  // With blocks of 1 MiB the entry of the bitmap follows those of 4096 blocks.
  ASSERT_TRUE(succeeds(now(store.file("disk.vhdx").zero(3 * kMiB + 4096 * 8, 8, File::Zeroing::give_space_back))));
  auto report = now(check_image(store, "disk.vhdx", {}, Repairing::no));
  ASSERT_TRUE(succeeds(report));
  ASSERT_EQ(report->findings.size(), 1u);
  EXPECT_EQ(report->findings[0].severity, Finding::Severity::lost);
  EXPECT_FALSE(report->clean());
  report = now(check_image(store, "disk.vhdx", {}, Repairing::yes));
  ASSERT_TRUE(succeeds(report));
  EXPECT_TRUE(report->clean());
  EXPECT_EQ(content_of(store, "disk.vhdx"), std::vector<std::byte>(8 * kMiB));
}

TEST(Check, CountsWhatItDoesNotList) {
  MemoryStore store;
  ASSERT_TRUE(succeeds(now(create_image(store, image("disk.vhdx", 2000 * kMiB)))));
  for (std::uint64_t block = 0; block < 2000; ++block) {
    const vhdx::U64 outside = (1ull << 40) | 6;
    ASSERT_TRUE(succeeds(now(write_bytes(store.file("disk.vhdx"), 3 * kMiB + block * 8, bytes_of(outside)))));
  }
  const auto report = now(check_image(store, "disk.vhdx", {}, Repairing::no));
  ASSERT_TRUE(succeeds(report));
  EXPECT_EQ(report->findings.size() + report->omitted, 2000u);
  EXPECT_LE(report->findings.size(), 1000u);
  EXPECT_EQ(report->unrepaired, 2000u);
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
