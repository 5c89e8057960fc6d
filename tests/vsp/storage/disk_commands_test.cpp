// SPDX-License-Identifier: Apache-2.0
// SCSI commands for disks, as they come out of a guest's driver.
#include <gtest/gtest.h>

#include <cerrno>
#include <numeric>

#include "tests/vsp/storage/storage_guest.hpp"

namespace bulkhead::vsp::storage {
namespace {

constexpr std::uint32_t kInvalidOperation = 0x052000;
constexpr std::uint32_t kInvalidField = 0x052400;
constexpr std::uint32_t kOutOfRange = 0x052100;
constexpr std::uint32_t kWriteProtected = 0x072700;

Bytes numbered(std::size_t size, std::uint8_t first = 1) {
  Bytes bytes(size);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

Bytes inquiry(std::uint8_t page, std::uint8_t allocation = 255) { return {0x12, 1, page, 0, allocation, 0}; }

std::uint64_t big_endian(const Bytes& bytes, std::size_t at, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t index = 0; index < size; ++index) value = value << 8 | bytes[at + index];
  return value;
}

class DiskCommands : public testing::Test {
 protected:
  void SetUp() override {
    guest.initialize();
    guest.take_announcement();
  }
  /// The answer has this sense and no data.
  void expect_sense(const std::optional<Answer>& answer, std::uint32_t sense) {
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->srb(), SrbStatus::Error);
    ASSERT_TRUE(answer->has_sense());
    EXPECT_EQ(answer->sense(), sense);
    EXPECT_EQ(answer->packet.scsi.scsi_status, 2);
    EXPECT_EQ(answer->packet.scsi.transfer_length, 0u);
  }
  void expect_good(const std::optional<Answer>& answer, std::uint32_t transferred = 0) {
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->srb(), SrbStatus::Success);
    EXPECT_EQ(answer->status(), NtStatus::Success);
    EXPECT_EQ(answer->packet.scsi.scsi_status, 0);
    EXPECT_EQ(answer->packet.scsi.transfer_length, transferred);
  }

  StorageGuest guest;
  TestDisk& disk = guest.add_disk(0);
};

TEST_F(DiskCommands, WhatIsWrittenIsReadByCommandsOfEveryLength) {
  const Bytes content = numbered(4096);
  expect_good(guest.write(write_10(8, 8), content), 4096);
  EXPECT_TRUE(std::equal(content.begin(), content.end(), disk.bytes.begin() + 4096));
  const std::vector<Bytes> reads = {{0x08, 0, 0, 8, 8, 0},
                                    read_10(8, 8),
                                    {0xa8, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0},
                                    {0x88, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0}};
  for (const auto& cdb : reads) {
    guest.set_data(Bytes(4096));
    expect_good(guest.read(cdb, 4096), 4096);
    EXPECT_EQ(guest.data(4096), content) << unsigned{cdb[0]};
  }
  const std::vector<Bytes> writes = {{0x0a, 0, 0, 16, 1, 0},
                                     {0xaa, 0, 0, 0, 0, 17, 0, 0, 0, 1, 0, 0},
                                     {0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 18, 0, 0, 0, 1, 0, 0}};
  for (const auto& cdb : writes) expect_good(guest.write(cdb, numbered(512, cdb[0])), 512);
  EXPECT_EQ(disk.bytes[16 * 512], 0x0a);
  EXPECT_EQ(disk.bytes[17 * 512], 0xaa);
  EXPECT_EQ(disk.bytes[18 * 512], 0x8a);
}

TEST_F(DiskCommands, ALengthOfZeroOfReadSixIs256) {
  expect_good(guest.read({0x08, 0, 0, 0, 0, 0}, 256 * 512), 256 * 512);
}

TEST_F(DiskCommands, LessMayBeTransferredThanThereIsMemoryFor) {
  disk.bytes[0] = 0xab;
  expect_good(guest.read(read_10(0, 1), 4096), 512);
  EXPECT_EQ(guest.data(1)[0], 0xab);
}

TEST_F(DiskCommands, MemoryThatDoesNotSuitTheCommandIsAMalformedRequest) {
  EXPECT_EQ(guest.read(read_10(0, 8), 512)->srb(), SrbStatus::InvalidRequest) << "too little";
  EXPECT_EQ(guest.execute(read_10(0, 1))->srb(), SrbStatus::InvalidRequest) << "none";
  EXPECT_EQ(guest.execute(read_10(0, 1), DataDirection::ToDevice, 512)->srb(), SrbStatus::InvalidRequest);
  EXPECT_EQ(disk.reads, 0u);
}

TEST_F(DiskCommands, BlocksBeyondTheEndDoNotExist) {
  expect_good(guest.read(read_10(2047, 1), 512), 512);
  expect_sense(guest.read(read_10(2047, 2), 1024), kOutOfRange);
  expect_sense(guest.read(read_10(0xffff'ffff, 1), 512), kOutOfRange);
  Bytes far(16, 0xff);
  far[0] = 0x88;
  far[1] = 0;
  expect_sense(guest.read(far, 512), kOutOfRange);
  expect_sense(guest.write(write_10(2048, 1), numbered(512)), kOutOfRange);
}

TEST_F(DiskCommands, AForcedWriteAndASynchronizationReachTheDisk) {
  expect_good(guest.write(write_10(0, 1), numbered(512)), 512);
  EXPECT_EQ(disk.flushes, 0u);
  expect_good(guest.write(write_10(0, 1, true), numbered(512)), 512);
  EXPECT_EQ(disk.flushes, 1u);
  expect_good(guest.execute({0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(disk.flushes, 2u);
  expect_good(guest.execute({0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(disk.flushes, 3u);
}

TEST_F(DiskCommands, ErrorsOfTheHostBecomeSenseData) {
  disk.fails_with = EIO;
  expect_sense(guest.read(read_10(0, 1), 512), 0x031100);
  expect_sense(guest.write(write_10(0, 1), numbered(512)), 0x030c00);
  expect_sense(guest.execute({0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0}), 0x030c00);
  EXPECT_TRUE(guest.host().complaints.empty()) << "nobody is to pause for this";
}

TEST_F(DiskCommands, AReadOnlyDiskIsWriteProtected) {
  auto& read_only = guest.add_disk(1, 1 << 20, {}, true);
  guest.take_announcement();
  expect_sense(guest.write(write_10(0, 1), numbered(512), 1), kWriteProtected);
  EXPECT_EQ(read_only.writes, 0u);
  expect_good(guest.read({0x1a, 0, 0x3f, 0, 255, 0}, 255, 1), 4 + 8 + 20 + 12 + 12);
  EXPECT_EQ(guest.data(3)[2] & 0x80, 0x80);
}

TEST_F(DiskCommands, CapacityIsToldInBothForms) {
  expect_good(guest.read({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 8), 8);
  EXPECT_EQ(big_endian(guest.data(8), 0, 4), 2047u);
  EXPECT_EQ(big_endian(guest.data(8), 4, 4), 512u);
  expect_good(guest.read({0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0}, 32), 32);
  const Bytes data = guest.data(32);
  EXPECT_EQ(big_endian(data, 0, 8), 2047u);
  EXPECT_EQ(big_endian(data, 8, 4), 512u);
  EXPECT_EQ(data[13], 3) << "eight logical blocks of 512 bytes are one physical block";
  EXPECT_EQ(data[14] & 0x80, 0x80) << "provisioned thinly";
}

TEST_F(DiskCommands, InquiryNamesTheDisk) {
  expect_good(guest.read({0x12, 0, 0, 0, 36, 0}, 36), 36);
  const Bytes data = guest.data(36);
  EXPECT_EQ(data[0], 0);
  EXPECT_EQ(std::string(data.begin() + 8, data.begin() + 32), "Msft    Virtual Disk    ");
  expect_good(guest.read({0x12, 0, 0, 0, 5, 0}, 36), 5);
}

TEST_F(DiskCommands, EveryPageThatIsListedIsThere) {
  ASSERT_TRUE(guest.read(inquiry(0), 255));
  const Bytes list = guest.data(64);
  const Bytes pages(list.begin() + 4, list.begin() + 4 + list[3]);
  EXPECT_EQ(pages, (Bytes{0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2}));
  for (const auto page : pages) {
    const auto answer = guest.read(inquiry(page), 255);
    const Bytes data = guest.data(4);
    expect_good(answer, static_cast<std::uint32_t>(4 + big_endian(data, 2, 2)));
    EXPECT_EQ(data[1], page);
  }
  expect_sense(guest.read(inquiry(0xb3), 255), kInvalidField);
  expect_sense(guest.read({0x12, 0, 0x80, 0, 255, 0}, 255), kInvalidField);  // a page without the bit for pages
}

TEST_F(DiskCommands, TheIdentityIsInTheSerialNumberAndTheDesignators) {
  ASSERT_TRUE(guest.read(inquiry(0x80), 255));
  const Bytes serial = guest.data(36);
  EXPECT_EQ(std::string(serial.begin() + 4, serial.end()), "00112233445566778899aabbccddeeff");
  ASSERT_TRUE(guest.read(inquiry(0x83), 255));
  const Bytes data = guest.data(64);
  EXPECT_EQ(std::string(data.begin() + 8, data.begin() + 48), "Msft    00112233445566778899aabbccddeeff");
  EXPECT_EQ(data[48 + 1], 0x03) << "NAA";
  EXPECT_EQ(data[48 + 4] >> 4, 3) << "locally assigned";
}

TEST_F(DiskCommands, ModePagesComeAloneAndTogether) {
  expect_good(guest.read({0x1a, 8, 0x08, 0, 255, 0}, 255), 4 + 20);
  EXPECT_EQ(guest.data(8)[6] & 0x04, 0x04) << "the write cache is on";
  expect_good(guest.read({0x5a, 8, 0x08, 0, 0, 0, 0, 0, 255, 0}, 255), 8 + 20);
  expect_good(guest.read({0x1a, 8, 0x48, 0, 255, 0}, 255), 4 + 20);
  EXPECT_EQ(guest.data(8)[6], 0) << "and cannot be switched off";
  expect_good(guest.read({0x1a, 0, 0x3f, 0, 255, 0}, 255), 4 + 8 + 20 + 12 + 12);
  expect_sense(guest.read({0x1a, 8, 0x05, 0, 255, 0}, 255), kInvalidField);
  expect_sense(guest.read({0x1a, 8, 0xc8, 0, 255, 0}, 255), 0x053900);
}

TEST_F(DiskCommands, UnmapGivesSpaceBack) {
  Bytes list(8 + 2 * 16);
  list[1] = 38;
  list[3] = 32;
  list[8 + 7] = 16;
  list[8 + 11] = 8;
  list[24 + 7] = 64;
  list[24 + 11] = 8;
  expect_good(guest.write({0x42, 0, 0, 0, 0, 0, 0, 0, 40, 0}, list), 40);
  EXPECT_EQ(disk.discards, 2u);
  list[24 + 6] = 0x08;
  expect_sense(guest.write({0x42, 0, 0, 0, 0, 0, 0, 0, 40, 0}, list), kOutOfRange);
  EXPECT_EQ(disk.discards, 2u) << "all are checked before the first is done";
}

TEST_F(DiskCommands, WriteSameRepeatsOneBlock) {
  const Bytes block = numbered(512, 7);
  expect_good(guest.write({0x41, 0, 0, 0, 0, 4, 0, 1, 0x2c, 0}, block), 512);
  for (std::size_t at = 4; at < 304; ++at) {
    ASSERT_TRUE(std::equal(block.begin(), block.end(), disk.bytes.begin() + static_cast<std::ptrdiff_t>(at * 512)));
  }
  EXPECT_NE(disk.bytes[304 * 512], 7);
  expect_good(guest.write({0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0}, Bytes(512)), 512);
  EXPECT_EQ(disk.zeroings, 1u) << "zeros are a hole";
  EXPECT_EQ(disk.bytes[8 * 512], 0);
  expect_sense(guest.write({0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0}, block), kInvalidField);  // no count
}

TEST_F(DiskCommands, AStoppedDiskIsNotReadyUntilItStarts) {
  expect_good(guest.execute({0x1b, 0, 0, 0, 0, 0}));
  EXPECT_EQ(disk.flushes, 1u);
  expect_sense(guest.execute({0, 0, 0, 0, 0, 0}), 0x020402);
  expect_sense(guest.read(read_10(0, 1), 512), 0x020402);
  expect_good(guest.execute({0x1b, 0, 0, 0, 1, 0}));
  expect_good(guest.execute({0, 0, 0, 0, 0, 0}));
}

TEST_F(DiskCommands, UnknownCommandsAreInvalid) {
  for (const std::uint8_t opcode : {0x04, 0x15, 0x4d, 0x85, 0xa3, 0xff}) {
    expect_sense(guest.execute({opcode, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}), kInvalidOperation);
  }
}

TEST_F(DiskCommands, ANewCapacityIsAUnitAttentionOnce) {
  disk.changeable_properties().size = 512 * 1024;
  ASSERT_TRUE(guest.controller().capacity_changed(0));
  guest.host().run();
  EXPECT_EQ(guest.take_announcement()->header.operation, Operation::EnumerateBus) << "look again";
  expect_sense(guest.execute({0, 0, 0, 0, 0, 0}), 0x062a09);
  expect_good(guest.read({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 8), 8);
  EXPECT_EQ(big_endian(guest.data(8), 0, 4), 1023u);
  EXPECT_FALSE(guest.controller().capacity_changed(1)) << "there is no such disk";
}

TEST_F(DiskCommands, RequestSenseTakesAUnitAttentionAndInquiryLeavesIt) {
  guest.controller().find(0)->raise(scsi::sense::kBusDeviceReset);
  expect_good(guest.read({0x12, 0, 0, 0, 36, 0}, 36), 36);
  expect_good(guest.read({0x03, 0, 0, 0, 18, 0}, 18), 18);
  EXPECT_EQ(guest.data(3)[2], 6);
  expect_good(guest.execute({0, 0, 0, 0, 0, 0}));
}

}  // namespace
}  // namespace bulkhead::vsp::storage
