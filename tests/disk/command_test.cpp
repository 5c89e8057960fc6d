// SPDX-License-Identifier: Apache-2.0
// `bulkhead disk`, as a user runs it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "disk/byte_order.hpp"
#include "tests/disk/host_directory.hpp"

namespace bulkhead::disk {
namespace {

class DiskCommand : public HostDirectory {
 protected:
  Output bulkhead(const std::string& arguments) { return shell(BULKHEAD_PROGRAM " disk " + arguments); }

  /// It fails with this status and exactly this line.
  void expect_refused(const std::string& arguments, int status, const std::string& line) {
    const auto output = bulkhead(arguments);
    EXPECT_EQ(output.status, status) << arguments;
    EXPECT_EQ(output.text, "bulkhead: " + line + "\n") << arguments;
  }
  void expect_works(const std::string& arguments) {
    const auto output = bulkhead(arguments);
    EXPECT_EQ(output.status, 0) << arguments << ": " << output.text;
  }
  /// A raw file whose every 64 KiB differ.
  void make_raw(const std::string& name, std::uint64_t size) {
    std::ofstream file(path(name), std::ios::binary);
    for (std::uint64_t at = 0; at < size; at += 64 * kKiB) {
      const auto bytes = pattern(64 * kKiB, at);
      file.write(static_cast<const char*>(static_cast<const void*>(bytes.data())), 64 * kKiB);
    }
  }
};

TEST_F(DiskCommand, SaysWhatAChainIsAsJson) {
  expect_works("create base.vhdx --size 10G --block-size 1M");
  expect_works("create top.vhdx --parent base.vhdx");
  const auto output = bulkhead("info --json top.vhdx");
  ASSERT_EQ(output.status, 0) << output.text;
  const auto json = nlohmann::json::parse(output.text);
  ASSERT_EQ(json["images"].size(), 2u);
  EXPECT_EQ(json["images"][0]["kind"], "differencing");
  EXPECT_EQ(json["images"][0]["virtual_size"], 10 * kGiB);
  EXPECT_EQ(json["images"][1]["block_size"], kMiB);
  EXPECT_EQ(json["images"][0]["parent"]["linkage"], json["images"][1]["data_write_guid"]);
}

TEST_F(DiskCommand, RefusesWithOneLineThatSaysWhy) {
  expect_works("create disk.vhdx --size 1G");
  expect_refused("info none.vhdx", 1, "cannot open 'none.vhdx': No such file or directory");
  expect_refused("create disk.vhdx --size 1G", 1, "cannot create 'disk.vhdx': File exists");
  expect_refused("create new.vhdx", 1, "cannot make 'new.vhdx': it needs a size");
  expect_refused("create new.vhd --size 3T", 1,
                 "cannot make 'new.vhd': a VHD has whole sectors of 512 bytes and at most 2040 GiB; 3298534883328 "
                 "bytes is not that");
  expect_refused("merge disk.vhdx", 1, "cannot merge 'disk.vhdx': it has no parent");
  EXPECT_FALSE(std::filesystem::exists(path("new.vhd")));
  std::ofstream(path("text.vhdx")) << "not an image";
  expect_refused("info text.vhdx", 1, "'text.vhdx' is not a VHDX file");
  auto writer = open("disk.vhdx", ImageStore::Access::write);
  expect_refused("check disk.vhdx", 1, "cannot read 'disk.vhdx': another program is writing to it");
  expect_refused("resize disk.vhdx 2G", 1, "cannot write to 'disk.vhdx': another program is using it");
}

TEST_F(DiskCommand, RefusesABadCommandLineWithOneLine) {
  expect_refused("", 2, "A subcommand is required");
  expect_refused("create", 2, "path is required");
  expect_refused("create disk.vhdx --size 1G --bogus", 2, "The following argument was not expected: --bogus");
  expect_refused("create disk.vhdx --size 1G --kind large", 2, "--kind: large not in {fixed,dynamic}");
  expect_refused("create disk.vhdx --size 1G --sector-size 1000", 2, "--sector-size: 1000 not in {512,4096}");
  EXPECT_FALSE(std::filesystem::exists(path("disk.vhdx")));
}

TEST_F(DiskCommand, MakesWhatAzureTakes) {
  make_raw("raw.img", 5 * kMiB + 64 * kKiB);
  expect_works("convert raw.img azure.vhd --kind fixed --azure");
  EXPECT_EQ(std::filesystem::file_size(path("azure.vhd")), 6 * kMiB + 512);  // whole MiB, and the footer
  EXPECT_TRUE(runs("truncate -s 6M raw.img && qemu-img compare -f raw -F vpc raw.img azure.vhd"));
  expect_works("create other.vhd --size 1000000 --kind fixed --azure");
  EXPECT_EQ(std::filesystem::file_size(path("other.vhd")), kMiB + 512);
}

TEST_F(DiskCommand, TakesTheFormatThatItIsTold) {
  expect_works("create base.image --format vhdx --size 8M --block-size 1M");
  expect_works("create child.image --format vhdx --parent base.image");
  expect_refused("merge child.image", 1, "cannot merge 'child.image': it has no parent");
  expect_works("resize child.image 16M --source-format vhdx");
  expect_works("flatten child.image --source-format vhdx");
  expect_works("create child2.image --format vhdx --parent child.image");
  expect_works("rebase child2.image --source-format vhdx --parent child.image --reconnect");
  expect_works("merge child2.image --source-format vhdx");
  EXPECT_NE(bulkhead("info child.image --source-format vhdx").text.find("vhdx dynamic, 16.0 MiB"), std::string::npos);
}

TEST_F(DiskCommand, RefusesOptionsThatTheFormatHasNoPlaceFor) {
  expect_refused("create disk.img --size 1G --azure", 1, "cannot make 'disk.img': Azure's rule is for VHD images");
  expect_refused("create disk.vhd --size 1G --sector-size 4096", 1,
                 "cannot make 'disk.vhd': a vhd image has sectors of 512 bytes");
  expect_refused("create disk.vhdx --size 1G --block-size 3M", 1,
                 "cannot make 'disk.vhdx': a VHDX has blocks of 1, 2, 4 ... or 256 MiB, not 3145728 bytes");
  expect_refused("create disk.vhdx --size lots", 1, "'lots' is not a size; write for example 512M or 2G");
}

TEST_F(DiskCommand, SaysWhichFilesItMayNotUse) {
  const std::string as_nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups ";
  if (shell("chmod 755 . && " + as_nobody + "test -x " BULKHEAD_PROGRAM).status != 0) {
    GTEST_SKIP() << "cannot become somebody who may not read everything";
  }
  expect_works("create disk.vhdx --size 1G");
  EXPECT_TRUE(runs("chmod 600 disk.vhdx"));
  EXPECT_EQ(shell(as_nobody + BULKHEAD_PROGRAM " disk info disk.vhdx").text,
            "bulkhead: cannot open 'disk.vhdx': Permission denied\n");
  EXPECT_TRUE(runs("chmod 444 disk.vhdx"));
  EXPECT_TRUE(runs(as_nobody + BULKHEAD_PROGRAM " disk info disk.vhdx"));
  EXPECT_EQ(shell(as_nobody + BULKHEAD_PROGRAM " disk resize disk.vhdx 2G").text,
            "bulkhead: cannot open 'disk.vhdx' for writing: Permission denied\n");
  EXPECT_EQ(shell(as_nobody + BULKHEAD_PROGRAM " disk create new.vhdx --size 1G").text,
            "bulkhead: cannot create 'new.vhdx': Permission denied\n");
}

TEST_F(DiskCommand, AKilledConversionGoesOnAndFinishes) {
  make_raw("raw.img", 640 * kMiB);
  const std::string convert = BULKHEAD_PROGRAM " disk convert raw.img disk.vhdx";
  // Killed as soon as a first part of it is durable.
  const auto killed = shell(convert +
                            " & pid=$!; until [ -s disk.vhdx.partial.state ] && "
                            "[ \"$(od -An -tu8 -j24 -N8 disk.vhdx.partial.state)\" -gt 0 ] || [ -e disk.vhdx ]; "
                            "do sleep 0.01; done; kill -9 $pid; wait $pid; true");
  ASSERT_EQ(killed.status, 0) << killed.text;
  EXPECT_TRUE(runs(convert));
  EXPECT_TRUE(runs("qemu-img compare -f raw -F vhdx raw.img disk.vhdx"));
  EXPECT_FALSE(std::filesystem::exists(path("disk.vhdx.partial")));
  EXPECT_FALSE(std::filesystem::exists(path("disk.vhdx.partial.state")));
}

TEST_F(DiskCommand, AFullDiskLosesNothing) {
  make_raw("raw.img", 8 * kMiB);
  const std::string convert = BULKHEAD_PROGRAM " disk convert raw.img disk.vhdx --block-size 1M";
  EXPECT_NE(shell("ulimit -f 8192; trap '' XFSZ; " + convert).status, 0);  // 8192 * 512 or 1024 bytes a file
  EXPECT_TRUE(runs(convert));
  EXPECT_TRUE(runs("qemu-img compare -f raw -F vhdx raw.img disk.vhdx"));
}

TEST_F(DiskCommand, ServingEndsInOrderAtASignal) {
  expect_works("create disk.vhdx --size 8M");
  const auto output = shell(BULKHEAD_PROGRAM
                            " disk serve disk.vhdx --socket s & pid=$!; until [ -S s ]; do sleep 0.05; done; "
                            "qemu-io -f raw -c 'write -P 7 1M 1M' 'nbd+unix:///?socket=s' && kill $pid && wait $pid");
  EXPECT_EQ(output.status, 0) << output.text;
  const auto bytes = content_of("disk.vhdx");
  EXPECT_EQ(bytes.at(kMiB), std::byte{7});
  EXPECT_EQ(bytes.at(2 * kMiB), std::byte{0});
  EXPECT_EQ(bulkhead("info disk.vhdx").text.find("not closed"), std::string::npos);
}

}  // namespace
}  // namespace bulkhead::disk
