// SPDX-License-Identifier: Apache-2.0
#include "disk/file/host_file.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "disk/byte_order.hpp"
#include "disk/operation/create.hpp"
#include "disk/synchronization.hpp"
#include "tests/disk/host_directory.hpp"

namespace bulkhead::disk {
namespace {

using HostFileTest = HostDirectory;

TEST_F(HostFileTest, ReadsBackWhatManyRequestsAtOnceWrote) {
  auto file = HostFile::create(*ring_, path("file"));
  ASSERT_TRUE(succeeds(file));
  const auto bytes = pattern(4 * kMiB, 1);
  TaskGroup writes;
  for (std::size_t at = 0; at < bytes.size(); at += 4096) {
    writes.add(write_bytes(**file, at, std::span(bytes).subspan(at, 4096)));
  }
  EXPECT_GT(ring_->in_flight(), 500u);
  ASSERT_TRUE(succeeds(wait(writes.wait())));
  EXPECT_EQ((*file)->size(), bytes.size());
  std::vector<std::byte> read(bytes.size() + 4096, std::byte{1});
  ASSERT_TRUE(succeeds(wait(read_bytes(**file, 0, read))));
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), read.begin()));
  EXPECT_EQ(read.back(), std::byte{0});  // past the end
}

TEST_F(HostFileTest, WhatIsOnItsWayToTheDiskIsStillThere) {
  auto file = HostFile::create(*ring_, path("file"));
  ASSERT_TRUE(succeeds(file));
  const auto bytes = pattern(kMiB, 1);
  ASSERT_TRUE(succeeds(wait(write_bytes(**file, 0, bytes))));
  EXPECT_TRUE(succeeds(wait((*file)->begin_flush(0, kMiB))));
  EXPECT_TRUE(succeeds(wait((*file)->begin_flush(kMiB, kMiB))));  // nothing is there
  std::vector<std::byte> read(bytes.size());
  ASSERT_TRUE(succeeds(wait(read_bytes(**file, 0, read))));
  EXPECT_EQ(read, bytes);
}

TEST_F(HostFileTest, KnowsItsHoles) {
  auto file = HostFile::create(*ring_, path("file"));
  ASSERT_TRUE(succeeds(file));
  ASSERT_TRUE(succeeds(wait((*file)->resize(8 * kMiB))));
  ASSERT_TRUE(succeeds(wait(write_bytes(**file, 4 * kMiB, pattern(kMiB, 1)))));
  auto extent = wait((*file)->query(0, 8 * kMiB));
  ASSERT_TRUE(succeeds(extent));
  EXPECT_TRUE(extent->hole);
  EXPECT_EQ(extent->length, 4 * kMiB);
  ASSERT_TRUE(succeeds(wait((*file)->zero(4 * kMiB, kMiB, File::Zeroing::give_space_back))));
  extent = wait((*file)->query(4 * kMiB, kMiB));
  EXPECT_TRUE(extent->hole);
}

TEST_F(HostFileTest, TwoWritersAreRefusedAndReadersShare) {
  {
    auto writer = HostFile::create(*ring_, path("file"));
    ASSERT_TRUE(succeeds(writer));
    const auto second = HostFile::open(*ring_, path("file"), HostFile::Access::write);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().message(), "cannot write to '" + path("file") + "': another program is using it");
    EXPECT_FALSE(HostFile::open(*ring_, path("file"), HostFile::Access::read));
  }
  auto reader = HostFile::open(*ring_, path("file"), HostFile::Access::read);
  ASSERT_TRUE(succeeds(reader));
  EXPECT_TRUE(succeeds(HostFile::open(*ring_, path("file"), HostFile::Access::read)));
  EXPECT_FALSE(HostFile::open(*ring_, path("file"), HostFile::Access::write));
}

TEST_F(HostFileTest, QemuAndWeRespectEachOthersLocks) {
  NewImage image;
  image.path = path("disk.vhdx");
  image.size = 8 * kMiB;
  ASSERT_TRUE(succeeds(wait(create_image(*store_, image))));
  {
    auto writer = open("disk.vhdx", ImageStore::Access::write);
    EXPECT_NE(shell("qemu-img info disk.vhdx").status, 0);
  }
  auto reader = open("disk.vhdx");
  EXPECT_TRUE(runs("qemu-img info disk.vhdx"));
  EXPECT_NE(shell("qemu-io -c 'write 0 512' disk.vhdx").status, 0);
}

TEST_F(HostFileTest, AParentOutsideOfTheAllowedDirectoriesIsNotOpened) {
  std::filesystem::create_directories(directory_ / "child");
  std::ofstream(path("secret")) << "x";
  std::ofstream(path("child/inside")) << "x";
  std::filesystem::create_symlink("../secret", directory_ / "child" / "link");
  const auto open_parent = [&](const std::string& reference) {
    return store_->open_parent(path("child/disk.vhdx"), reference, ImageStore::Access::read);
  };
  EXPECT_TRUE(succeeds(open_parent("inside")));
  EXPECT_TRUE(succeeds(open_parent("../child/inside")));
  EXPECT_FALSE(open_parent("../secret"));
  EXPECT_FALSE(open_parent(path("secret")));
  EXPECT_FALSE(open_parent("link"));
  HostStore wider(*ring_, {directory_.string()});
  EXPECT_TRUE(succeeds(wider.open_parent(path("child/disk.vhdx"), "../secret", ImageStore::Access::read)));
  EXPECT_FALSE(wider.open_parent(path("child/disk.vhdx"), "/etc/passwd", ImageStore::Access::read));
}

TEST_F(HostFileTest, ErrorsAreOneLineThatSaysWhatAndWhy) {
  EXPECT_EQ(HostFile::open(*ring_, path("none"), HostFile::Access::read).error().message(),
            "cannot open '" + path("none") + "': No such file or directory");
  EXPECT_EQ(HostFile::open(*ring_, directory_.string(), HostFile::Access::read).error().message(),
            "cannot use '" + directory_.string() + "' as a disk: it is neither a file nor a block device");
}

}  // namespace
}  // namespace bulkhead::disk
