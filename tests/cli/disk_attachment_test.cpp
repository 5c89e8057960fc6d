// SPDX-License-Identifier: Apache-2.0
#include "cli/disk_attachment.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace bulkhead::cli {
namespace {

class DiskAttachmentTest : public testing::Test {
 protected:
  DiskAttachmentTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "bulkhead-cli-XXXXXX").string();
    directory = ::mkdtemp(pattern.data());
  }
  ~DiskAttachmentTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory, ignored);
  }
  std::string make(const std::string& name, const std::string& content = "content") {
    const auto path = (directory / name).string();
    std::ofstream(path) << content;
    return path;
  }
  static std::string error_of(const std::string& text) {
    auto disk = open_disk_files(text);
    return disk ? "" : disk.error().message();
  }

  std::filesystem::path directory;
};

TEST_F(DiskAttachmentTest, ReadsTheOptionsBehindTheName) {
  const auto path = make("disk.raw");
  auto disk = open_disk_files(path + ",read-only,iops=500,bps=10M,number=5");
  ASSERT_TRUE(disk) << disk.error().message();
  EXPECT_TRUE(disk->option.read_only);
  EXPECT_EQ(disk->option.iops, 500u);
  EXPECT_EQ(disk->option.bps, 10u << 20);
  EXPECT_EQ(disk->option.number, 5);
  EXPECT_EQ(disk->option.format, "raw");
  ASSERT_EQ(disk->files.size(), 1u);
  EXPECT_EQ(disk->option.files.front().fd, disk->files.front().get());
  EXPECT_EQ(disk->option.files.front().path, path);
}

TEST_F(DiskAttachmentTest, ACommaMayBelongToTheName) {
  const auto path = make("one,read-only.raw");
  auto disk = open_disk_files(path + ",iops=5");
  ASSERT_TRUE(disk) << disk.error().message();
  EXPECT_EQ(disk->option.files.front().path, path);
  EXPECT_FALSE(disk->option.read_only);
  EXPECT_EQ(disk->option.iops, 5u);
}

TEST_F(DiskAttachmentTest, SaysWhatIsWrong) {
  const auto path = make("disk.raw");
  EXPECT_EQ(error_of(path + ",readonly"),
            "'readonly' is none of read-only, iops=N, bps=SIZE, format=raw|vhd|vhdx, bus=scsi|ide, number=N");
  EXPECT_EQ(error_of(path + ",iops=many"), "iops 'many' is not a number from 0 to 4294967295");
  EXPECT_EQ(error_of(path + ",bus=ide,number=4"), "there are the IDE disks 0 to 3");
  const auto missing = (directory / "missing.raw").string();
  EXPECT_EQ(error_of(missing + ",read-only"), "cannot open '" + missing + "': No such file or directory");
}

TEST_F(DiskAttachmentTest, AnImageWithoutAnHonestNameMustBeSaidToBeOne) {
  const auto path = make("backup", "vhdxfile and more");
  EXPECT_EQ(error_of(path), "'" + path +
                                "' begins like a vhdx image, and its name does not say so: add format=vhdx or "
                                "format=raw");
  auto disk = open_disk_files(path + ",format=raw");
  ASSERT_TRUE(disk) << disk.error().message();
  EXPECT_EQ(disk->option.format, "raw");
  EXPECT_EQ(error_of(make("guest.img", "vhdxfile and more")), "") << "the name says that it is raw";
}

TEST_F(DiskAttachmentTest, ADriveMayBeEmpty) {
  auto drive = open_dvd_files("none");
  ASSERT_TRUE(drive);
  EXPECT_EQ(drive->option.kind, "dvd");
  EXPECT_TRUE(drive->files.empty());
  EXPECT_FALSE(open_dvd_files((directory / "missing.iso").string()));
}

}  // namespace
}  // namespace bulkhead::cli
