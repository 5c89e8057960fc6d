// SPDX-License-Identifier: Apache-2.0
// A machine's disks on files of this host, with io_uring and an event loop, and a guest's driver on the other side.
#include "worker/machine_storage.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <filesystem>

#include "disk/chain/chain.hpp"
#include "disk/operation/create.hpp"
#include "tests/vsp/storage/storage_guest.hpp"
#include "worker/identity.hpp"

namespace bulkhead::worker {
namespace {

using vmbus::Bytes;
using vsp::storage::read_10;
using vsp::storage::SrbStatus;
using vsp::storage::write_10;

constexpr std::uint64_t kMiB = 1 << 20;

class MachineStorageTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "bulkhead-worker-XXXXXX").string();
    directory = ::mkdtemp(pattern.data());
    auto made = MachineStorage::create(event_loop, lock, fake.memory(), {.machine = "test", .vp_count = 2},
                                       [this](const std::string& why) { complaints.push_back(why); });
    ASSERT_TRUE(made) << made.error().message();
    storage = std::move(*made);
  }
  void TearDown() override {
    {
      std::lock_guard held(lock);
      units.stop();
    }
    storage.reset();
    std::error_code ignored;
    std::filesystem::remove_all(directory, ignored);
  }

  std::string path(const std::string& name) const { return (directory / name).string(); }
  void make_raw(const std::string& name, std::uint64_t size) {
    const int file = ::open(path(name).c_str(), O_RDWR | O_CREAT, 0600);
    ASSERT_EQ(ftruncate(file, static_cast<off_t>(size)), 0);
    ::close(file);
  }
  /// The image and its parents, as `bulkhead run` gives them.
  DiskAttachment disk(const std::vector<std::string>& names, DiskOption option = {}) {
    for (const auto& name : names) {
      const bool writes = option.files.empty() && !option.read_only;
      option.files.push_back({::open(path(name).c_str(), (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC), path(name)});
    }
    return DiskAttachment(std::move(option));
  }
  std::string error_of(DiskAttachment attachment) {
    auto attached = storage->attach(std::move(attachment));
    return attached ? "" : attached.error().message();
  }
  void connect() {
    std::lock_guard held(lock);
    ASSERT_TRUE(storage->connect(fake.bus(), units));
    units.start();
  }
  void run_host() {
    event_loop.restart();
    event_loop.run();  // until nothing is under way
  }
  Bytes content_of(const std::string& name, std::size_t offset, std::size_t size) {
    Bytes bytes(size);
    const int file = ::open(path(name).c_str(), O_RDONLY);
    EXPECT_EQ(pread(file, bytes.data(), size, static_cast<off_t>(offset)), static_cast<ssize_t>(size));
    ::close(file);
    return bytes;
  }

  std::filesystem::path directory;
  boost::asio::io_context event_loop;
  std::mutex lock;
  vmbus::FakeGuest fake{2};
  UnitTree units;
  std::vector<std::string> complaints;
  std::unique_ptr<MachineStorage> storage;
  vsp::storage::StorageDriver driver{fake, [this] { run_host(); }};
};

TEST_F(MachineStorageTest, ADiskGrowsWhileTheGuestUsesIt) {
  ASSERT_TRUE(units.add(fake.bus()));
  make_raw("disk.raw", kMiB);
  ASSERT_TRUE(storage->attach(disk({"disk.raw"})));
  connect();
  driver.initialize();
  driver.take_announcement();
  driver.write(write_10(2047, 1), Bytes(512, 7));
  EXPECT_EQ(driver.read(read_10(4000, 1), 512)->srb(), SrbStatus::Error) << "there is nothing yet";
  ASSERT_TRUE(storage->grow(0, 4 * kMiB, true));
  EXPECT_EQ(std::filesystem::file_size(path("disk.raw")), 4 * kMiB);
  run_host();
  EXPECT_TRUE(driver.take_announcement()) << "the guest shall look again";
  // It is told so with its next command, and then finds the rest.
  const auto told = driver.read(read_10(4000, 1), 512);
  ASSERT_TRUE(told && told->has_sense());
  EXPECT_EQ(told->sense(), 0x062a09u);
  driver.set_data(Bytes(512, 9));
  EXPECT_EQ(driver.read(read_10(4000, 1), 512)->srb(), SrbStatus::Success);
  EXPECT_EQ(driver.data(512), Bytes(512, 0));
  driver.read(read_10(2047, 1), 512);
  EXPECT_EQ(driver.data(512), Bytes(512, 7)) << "what was there is there";
}

TEST_F(MachineStorageTest, WhatCannotGrowSaysWhy) {
  const auto error = [&](std::uint8_t number, std::uint64_t size) {
    auto grown = storage->grow(number, size, false);
    return grown ? "" : grown.error().message();
  };
  make_raw("disk.raw", kMiB);
  ASSERT_TRUE(storage->attach(disk({"disk.raw"})));
  DiskOption empty_drive{.kind = "dvd"};
  empty_drive.number = 2;
  ASSERT_TRUE(storage->attach(DiskAttachment(empty_drive)));
  EXPECT_EQ(error(9, kMiB), "there is no disk 9");
  EXPECT_EQ(error(2, kMiB), "number 2 is a DVD drive");
  EXPECT_EQ(error(0, kMiB - 512),
            "'" + path("disk.raw") + "' has 1048576 bytes, and a disk that a guest uses cannot lose any");
  EXPECT_EQ(error(0, kMiB + 1), "a disk of 1048577 bytes does not end with a block of 512");
  EXPECT_EQ(error(0, kMiB), "");
  EXPECT_EQ(std::filesystem::file_size(path("disk.raw")), kMiB);
}

TEST_F(MachineStorageTest, AVhdxGrowsToo) {
  ASSERT_TRUE(units.add(fake.bus()));
  {
    auto ring = *disk::Ring::create();
    disk::HostStore store(*ring);
    disk::NewImage image;
    image.path = path("disk.vhdx");
    image.size = 8 * kMiB;
    ASSERT_TRUE(disk::run(disk::create_image(store, image), [&] { ring->wait(); }));
  }
  DiskOption option;
  option.format = "vhdx";
  ASSERT_TRUE(storage->attach(disk({"disk.vhdx"}, option)));
  connect();
  driver.initialize();
  driver.take_announcement();
  driver.write(write_10(5, 1), Bytes(512, 7));
  ASSERT_TRUE(storage->grow(0, 64 * kMiB, true));
  run_host();
  driver.take_announcement();
  driver.read(read_10(5, 1), 512);  // which tells it
  driver.write(write_10(100'000, 1), Bytes(512, 8));
  driver.read(read_10(100'000, 1), 512);
  EXPECT_EQ(driver.data(512), Bytes(512, 8));
  driver.read(read_10(5, 1), 512);
  EXPECT_EQ(driver.data(512), Bytes(512, 7));
}

TEST_F(MachineStorageTest, WhatAGuestWritesIsInTheFile) {
  ASSERT_TRUE(units.add(fake.bus()));
  make_raw("disk.raw", kMiB);
  ASSERT_EQ(storage->attach(disk({"disk.raw"})).value(), 0);
  connect();
  driver.initialize();
  driver.take_announcement();
  Bytes content(16384);
  for (std::size_t at = 0; at < content.size(); ++at) content[at] = static_cast<std::uint8_t>(at * 7 + at / 256);
  EXPECT_EQ(driver.write(write_10(16, 32, true), content)->srb(), SrbStatus::Success);
  EXPECT_EQ(content_of("disk.raw", 16 * 512, content.size()), content);
  driver.set_data(Bytes(16384));
  EXPECT_EQ(driver.read(read_10(16, 32), 16384)->srb(), SrbStatus::Success);
  EXPECT_EQ(driver.data(16384), content);
}

TEST_F(MachineStorageTest, AChainOfImagesIsOpenedFromItsDescriptors) {
  ASSERT_TRUE(units.add(fake.bus()));
  {
    auto ring = *disk::Ring::create();
    disk::HostStore store(*ring);
    const auto wait = [&] { ring->wait(); };
    disk::NewImage base;
    base.path = path("base.vhdx");
    base.size = 8 * kMiB;
    ASSERT_TRUE(disk::run(disk::create_image(store, base), wait));
    disk::NewImage child;
    child.path = path("child.vhdx");
    child.kind = disk::Kind::differencing;
    child.parent = path("base.vhdx");
    ASSERT_TRUE(disk::run(disk::create_image(store, child), wait));
  }
  DiskOption vhdx;
  vhdx.format = "vhdx";
  EXPECT_NE(error_of(disk({"child.vhdx"}, vhdx)), "") << "without its parent";
  ASSERT_EQ(storage->attach(disk({"child.vhdx", "base.vhdx"}, vhdx)).value(), 0);
  connect();
  driver.initialize();
  driver.take_announcement();
  EXPECT_EQ(driver.write(write_10(100, 8), Bytes(4096, 0x3c))->srb(), SrbStatus::Success);
  EXPECT_EQ(driver.read(read_10(100, 8), 4096)->srb(), SrbStatus::Success);
  EXPECT_EQ(driver.data(4096), Bytes(4096, 0x3c));
}

TEST_F(MachineStorageTest, SaysWhyADiskCannotBe) {
  make_raw("disk.raw", kMiB);
  make_raw("other.raw", kMiB);
  DiskOption vhdx;
  vhdx.format = "vhdx";
  EXPECT_NE(error_of(disk({"disk.raw"}, vhdx)), "") << "it is no VHDX";
  ASSERT_TRUE(storage->attach(disk({"disk.raw"})));
  EXPECT_EQ(error_of(disk({"disk.raw"})), "cannot write to '" + path("disk.raw") + "': another program is using it");
  DiskOption first;
  first.number = 0;
  EXPECT_EQ(error_of(disk({"other.raw"}, first)), "there is a disk 0 on the SCSI controller");
  make_raw("tiny.raw", 512);
  EXPECT_EQ(error_of(disk({"tiny.raw"})), "'" + path("tiny.raw") + "' is too small");
}

TEST_F(MachineStorageTest, DisksComeAndGoWhileTheGuestRuns) {
  ASSERT_TRUE(units.add(fake.bus()));
  connect();
  driver.initialize();
  make_raw("disk.raw", kMiB);
  const auto number = storage->attach(disk({"disk.raw"}));
  ASSERT_TRUE(number);
  run_host();
  EXPECT_TRUE(driver.take_announcement());
  EXPECT_EQ(driver.write(write_10(0, 1), Bytes(512, 0x42), *number)->srb(), SrbStatus::Success);
  bool gone = false;
  ASSERT_TRUE(storage->detach(*number, [&](const Result<>& closed) { gone = closed.has_value(); }));
  run_host();
  EXPECT_TRUE(gone);
  EXPECT_EQ(content_of("disk.raw", 0, 1), Bytes{0x42});
  EXPECT_EQ(storage->attach(disk({"disk.raw"})).value(), *number) << "the file is free again";
}

TEST_F(MachineStorageTest, IdeDisksAreThereFromTheStart) {
  ASSERT_TRUE(units.add(fake.bus()));
  make_raw("disk.raw", kMiB);
  DiskOption ide;
  ide.bus = "ide";
  ide.number = 1;
  ASSERT_EQ(storage->attach(disk({"disk.raw"}, ide)).value(), 1);
  connect();
  const auto offers = fake.connect();
  ASSERT_EQ(offers.size(), 2u);
  EXPECT_EQ(offers[1].interface_type, abi::storage::kIdeInterface);
  make_raw("late.raw", kMiB);
  ide.number = 2;
  EXPECT_EQ(error_of(disk({"late.raw"}, ide)), "IDE disks cannot be attached while the machine runs");
}

TEST(Identity, IsThatOfTheMachineAndThePlaceForEver) {
  const auto identity = device_identity("web server", "scsi0");
  EXPECT_EQ(identity, device_identity("web server", "scsi0"));
  EXPECT_NE(identity, device_identity("web server", "scsi1"));
  EXPECT_NE(identity, device_identity("web", " server/scsi0"));
  EXPECT_EQ(identity.text()[14], '5') << "a name-based GUID";
}

}  // namespace
}  // namespace bulkhead::worker
