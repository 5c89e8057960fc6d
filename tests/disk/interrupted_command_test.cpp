// SPDX-License-Identifier: Apache-2.0
// `bulkhead disk` that is stopped in the middle: killed, by Ctrl-C, or because the file system is full.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>

#include "disk/byte_order.hpp"
#include "disk/operation/check.hpp"
#include "disk/operation/create.hpp"
#include "tests/disk/host_directory.hpp"

namespace bulkhead::disk {
namespace {

class Interrupted : public HostDirectory {
 protected:
  static constexpr std::uint64_t kSize = 96 * kMiB;

  void make(const std::string& name, const std::string& parent = {}) {
    NewImage image;
    image.path = path(name);
    image.size = parent.empty() ? kSize : 0;
    image.block = 1 << 20;
    image.kind = parent.empty() ? Kind::dynamic : Kind::differencing;
    image.parent = parent.empty() ? parent : path(parent);
    ASSERT_TRUE(succeeds(wait(create_image(*store_, image))));
  }
  void fill(const std::string& name, std::uint64_t offset, std::uint64_t length, std::uint64_t seed) {
    auto disk = open(name, ImageStore::Access::write);
    ASSERT_TRUE(disk);
    ASSERT_TRUE(succeeds(wait(write_bytes(*disk, offset, pattern(length, seed)))));
    ASSERT_TRUE(succeeds(wait(disk->close())));
  }
  /// A child that hides most of its parent; what the child shows.
  std::vector<std::byte> make_mergeable() {
    make("base.vhdx");
    fill("base.vhdx", 0, 16 * kMiB, 1);
    make("child.vhdx", "base.vhdx");
    fill("child.vhdx", 8 * kMiB, 80 * kMiB, 2);
    return content_of("child.vhdx");
  }
  /// An image whose first half could be given back; what it shows.
  std::vector<std::byte> make_compactable() {
    make("disk.vhdx");
    fill("disk.vhdx", 0, kSize, 3);
    auto disk = open("disk.vhdx", ImageStore::Access::write);
    EXPECT_TRUE(succeeds(wait(write_bytes(*disk, 0, std::vector<std::byte>(kSize / 2)))));
    EXPECT_TRUE(succeeds(wait(disk->close())));
    disk.reset();
    return content_of("disk.vhdx");
  }

  void expect_clean(const std::string& name) {
    const auto report = wait(check_image(*store_, path(name), {}, Repairing::no));
    ASSERT_TRUE(succeeds(report));
    EXPECT_TRUE(report->clean()) << name;
  }

  /// Starts `bulkhead disk ARGUMENTS`, and kills it as soon as the shell's condition `begun` holds. False if it was
  /// quicker.
  bool kill_once(const std::string& arguments, const std::string& begun) {
    const auto output = shell(fmt::format("{} disk {} & pid=$!; until {}; do :; done; kill -9 $pid; wait $pid; echo $?",
                                          BULKHEAD_PROGRAM, arguments, begun));
    EXPECT_EQ(output.status, 0) << output.text;
    // Its files are its own until the kernel has ended what it was asked for, a flush for example.
    EXPECT_TRUE(
        runs("for f in *.vhdx; do until " BULKHEAD_PROGRAM " disk info $f >/dev/null 2>&1; do sleep 0.05; done; done"));
    return output.text.find("137\n") != std::string::npos;
  }
};

/// What a condition sees: the file has other content than it had, and has grown.
std::string changed(const std::string& name) { return "[ " + name + " -nt start ]"; }
std::string larger(const std::string& name, std::uint64_t size) {
  return fmt::format("[ $(stat -c %s {}) -gt {} ]", name, size);
}

TEST_F(Interrupted, AKilledMergeKeepsTheDiskAndFinishes) {
  const auto expected = make_mergeable();
  const auto start = std::filesystem::file_size(path("base.vhdx"));
  ASSERT_TRUE(runs("cp base.vhdx base.kept && cp child.vhdx child.kept"));
  bool killed = false;
  for (int attempt = 0; attempt < 20 && !killed; ++attempt) {
    ASSERT_TRUE(runs("cp base.kept base.vhdx && cp child.kept child.vhdx"));
    killed = kill_once("merge child.vhdx", larger("base.vhdx", start + 8 * kMiB)) &&
             std::filesystem::exists(path("child.vhdx"));  // it did not come to the end of its work
  }
  ASSERT_TRUE(killed);
  EXPECT_EQ(content_of("child.vhdx"), expected);
  expect_clean("child.vhdx");
  expect_clean("base.vhdx");
  EXPECT_TRUE(runs(BULKHEAD_PROGRAM " disk merge child.vhdx"));
  EXPECT_FALSE(std::filesystem::exists(path("child.vhdx")));
  EXPECT_EQ(content_of("base.vhdx"), expected);
  EXPECT_TRUE(runs("qemu-img check -f vhdx base.vhdx"));
}

TEST_F(Interrupted, AKilledCompactionKeepsTheDiskAndFinishes) {
  const auto expected = make_compactable();
  const auto start = std::filesystem::file_size(path("disk.vhdx"));
  ASSERT_TRUE(runs("cp disk.vhdx disk.kept"));
  int killed = 0;
  for (const char* delay : {"0", "0.05", "0.1", "0.2", "0.4"}) {
    ASSERT_TRUE(runs("cp disk.kept disk.vhdx; sleep 0.02; touch start"));
    killed += kill_once("compact disk.vhdx", changed("disk.vhdx") + " && sleep " + delay) ? 1 : 0;
    ASSERT_EQ(content_of("disk.vhdx"), expected) << delay;
    expect_clean("disk.vhdx");
  }
  EXPECT_GT(killed, 0);
  EXPECT_TRUE(runs(BULKHEAD_PROGRAM " disk compact disk.vhdx"));
  EXPECT_EQ(content_of("disk.vhdx"), expected);
  EXPECT_LT(std::filesystem::file_size(path("disk.vhdx")), start - kSize / 2 + kMiB);
  EXPECT_TRUE(runs("qemu-img check -f vhdx disk.vhdx"));
}

TEST_F(Interrupted, CtrlCStopsInOrderAndTheNextRunFinishes) {
  {
    std::ofstream file(path("raw.img"), std::ios::binary);
    for (int i = 0; i < 640; ++i) {
      const auto bytes = pattern(kMiB, static_cast<std::uint64_t>(i));
      file.write(static_cast<const char*>(static_cast<const void*>(bytes.data())), static_cast<long>(kMiB));
    }
  }
  const std::string convert = BULKHEAD_PROGRAM " disk convert raw.img disk.vhdx";
  const auto output = shell(convert + " & pid=$!; until [ -s disk.vhdx.partial ] && " +
                            larger("disk.vhdx.partial", 64 * kMiB) + "; do :; done; kill -INT $pid; wait $pid");
  EXPECT_EQ(output.status, 1);
  EXPECT_EQ(output.text, "bulkhead: cannot convert 'raw.img': stopped; run it again to finish\n");
  EXPECT_FALSE(std::filesystem::exists(path("disk.vhdx")));
  EXPECT_TRUE(runs(convert));
  EXPECT_TRUE(runs("qemu-img compare -f raw -F vhdx raw.img disk.vhdx"));
}

TEST_F(Interrupted, ProgressIsShownOnATerminalAndNowhereElse) {
  make("disk.vhdx");
  fill("disk.vhdx", 0, kSize, 1);
  EXPECT_EQ(shell(BULKHEAD_PROGRAM " disk convert disk.vhdx plain.vhdx").text, "");
  const auto shown = shell("script -qec '" BULKHEAD_PROGRAM " disk convert disk.vhdx shown.vhdx' /dev/null </dev/null");
  EXPECT_EQ(shown.status, 0);
  EXPECT_NE(shown.text.find("converting [####"), std::string::npos) << shown.text;
}

TEST_F(Interrupted, TheLockOfAKilledProgramIsGone) {
  make("disk.vhdx");
  const auto output = shell(
      BULKHEAD_PROGRAM
      " disk serve disk.vhdx --socket s >/dev/null & pid=$!; until [ -S s ]; do sleep 0.02; done; " BULKHEAD_PROGRAM
      " disk resize disk.vhdx 1G; echo $?; kill -9 $pid; wait $pid; " BULKHEAD_PROGRAM
      " disk resize disk.vhdx 1G; echo $?");
  // Between them the shell may say that it was killed.
  EXPECT_TRUE(output.text.starts_with("bulkhead: cannot write to 'disk.vhdx': another program is using it\n1\n"));
  EXPECT_TRUE(output.text.ends_with("\n0\n")) << output.text;
}

/// On a file system of its own that is too small for the work.
class FullFileSystem : public Interrupted {
 protected:
  /// Runs `fill` in a directory of `megabytes`, then `then` after it has become large. `$B` is the program.
  Output on_small(int megabytes, const std::string& files, const std::string& fill, const std::string& then) {
    return shell(
        fmt::format("mkdir -p small && unshare --map-root-user --mount sh -ec 'mount -t tmpfs -o size={}m none "
                    "small; B=\"{} disk\"; cp --sparse=always {} small; cd small; ! {} 2>../error; "
                    "mount -o remount,size=900m .; {}; mv * ..'",
                    megabytes, BULKHEAD_PROGRAM, files, fill, then));
  }
  void expect_full(const Output& output) {
    EXPECT_EQ(output.status, 0) << output.text;
    EXPECT_NE(shell("cat error").text.find("No space left on device"), std::string::npos) << shell("cat error").text;
  }
  bool possible() { return shell("unshare --map-root-user --mount true").status == 0; }
};

TEST_F(FullFileSystem, AMergeLosesNothingAndFinishesOnceThereIsRoom) {
  if (!possible()) {
    GTEST_SKIP() << "may not mount a file system";
  }
  const auto expected = make_mergeable();
  const auto files =
      (std::filesystem::file_size(path("base.vhdx")) + std::filesystem::file_size(path("child.vhdx"))) / kMiB;
  expect_full(on_small(static_cast<int>(files) + 20, "base.vhdx child.vhdx", "$B merge child.vhdx",
                       "$B convert child.vhdx shown.raw; $B merge child.vhdx"));
  EXPECT_EQ(content_of("shown.raw"), expected);  // what the child showed when the file system was full
  EXPECT_EQ(content_of("base.vhdx"), expected);
  expect_clean("base.vhdx");
}

TEST_F(FullFileSystem, AConversionLosesNothingAndFinishesOnceThereIsRoom) {
  if (!possible()) {
    GTEST_SKIP() << "may not mount a file system";
  }
  make("disk.vhdx");
  fill("disk.vhdx", 0, kSize, 4);
  const auto size = std::filesystem::file_size(path("disk.vhdx")) / kMiB;
  expect_full(on_small(static_cast<int>(size) + 30, "disk.vhdx", "$B convert disk.vhdx new.vhd",
                       "test ! -e new.vhd; $B convert disk.vhdx new.vhd"));
  EXPECT_EQ(content_of("new.vhd"), content_of("disk.vhdx"));
  expect_clean("new.vhd");
}

}  // namespace
}  // namespace bulkhead::disk
