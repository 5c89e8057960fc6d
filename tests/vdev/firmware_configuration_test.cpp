// SPDX-License-Identifier: Apache-2.0
#include "vdev/firmware_configuration.hpp"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <string>

namespace bulkhead::vdev {
namespace {

using Item = FirmwareConfiguration::Item;

constexpr std::uint64_t kMemorySize = 0x10000;
constexpr std::uint64_t kRom = 0x20000;
constexpr std::uint64_t kCommand = 0x1000;
constexpr std::uint32_t kRead = 2, kSkip = 4, kSelect = 8, kWrite = 16, kFailed = 1;

class FirmwareConfigurationTest : public testing::Test {
 protected:
  static std::unique_ptr<engine::GuestMemory> make_memory() {
    const std::array ranges{engine::GuestMemory::Range{.base = 0, .size = kMemorySize},
                            engine::GuestMemory::Range{.base = kRom, .size = 0x1000, .writable = false}};
    return *engine::GuestMemory::allocate(ranges);
  }

  void select(Item item) { device_.write_port(0x510, 2, static_cast<std::uint16_t>(item)); }
  std::string read(std::size_t count) {
    std::string text;
    for (std::size_t index = 0; index < count; ++index) text += static_cast<char>(device_.read_port(0x511, 1));
    return text;
  }
  std::uint32_t read_big_endian_32() {
    std::uint32_t value = 0;
    for (const char byte : read(4)) value = value << 8 | static_cast<std::uint8_t>(byte);
    return value;
  }

  /// Puts a command in memory and gives its address to the device. Gives the control word that is there then.
  std::uint32_t transfer(std::uint32_t control, std::uint32_t length, std::uint64_t address,
                         std::uint64_t command = kCommand) {
    std::array<std::uint8_t, 16> bytes{};
    for (unsigned index = 0; index < 4; ++index) bytes[index] = static_cast<std::uint8_t>(control >> (24 - 8 * index));
    for (unsigned index = 0; index < 4; ++index) {
      bytes[4 + index] = static_cast<std::uint8_t>(length >> (24 - 8 * index));
    }
    for (unsigned index = 0; index < 8; ++index) {
      bytes[8 + index] = static_cast<std::uint8_t>(address >> (56 - 8 * index));
    }
    static_cast<void>(memory_->write(command, bytes));
    device_.write_port(0x514, 4, __builtin_bswap32(static_cast<std::uint32_t>(command >> 32)));
    device_.write_port(0x518, 4, __builtin_bswap32(static_cast<std::uint32_t>(command)));
    std::array<std::uint8_t, 4> answer{};
    static_cast<void>(memory_->read(command, answer));
    return __builtin_bswap32(std::bit_cast<std::uint32_t>(answer));
  }
  static std::uint32_t selecting(Item item) { return std::uint32_t{static_cast<std::uint16_t>(item)} << 16 | kSelect; }
  std::string in_memory(std::uint64_t address, std::size_t size) {
    const auto bytes = memory_->at(address, size);
    return bytes ? std::string(bytes->begin(), bytes->end()) : std::string();
  }

  std::unique_ptr<engine::GuestMemory> memory_ = make_memory();
  FirmwareConfiguration device_{*memory_};
};

TEST_F(FirmwareConfigurationTest, SaysThatItIsThere) {
  select(Item::Signature);
  EXPECT_EQ(read(4), "QEMU");
  select(Item::Features);
  EXPECT_EQ(read(4), std::string("\3\0\0\0", 4));
  EXPECT_EQ(device_.read_port(0x514, 4), std::uint32_t{'Q' | 'E' << 8 | 'M' << 16 | 'U' << 24});
  EXPECT_EQ(device_.read_port(0x518, 4), std::uint32_t{' ' | 'C' << 8 | 'F' << 16 | 'G' << 24});
}

TEST_F(FirmwareConfigurationTest, GivesItemsByteByByteAndZerosBehindThem) {
  device_.set(Item::CommandLineData, {'q', 'u', 'i', 'e', 't'});
  select(Item::CommandLineData);
  EXPECT_EQ(read(7), std::string("quiet\0\0", 7));
  select(Item::CommandLineData);
  EXPECT_EQ(read(2), "qu");
}

TEST_F(FirmwareConfigurationTest, WhatIsNotThereReadsAsZeros) {
  device_.write_port(0x510, 2, 0xffff);
  EXPECT_EQ(read(4), std::string(4, '\0'));
}

TEST_F(FirmwareConfigurationTest, NumbersAreLittleEndian) {
  device_.set_number(Item::KernelSize, 0x12345678, 4);
  select(Item::KernelSize);
  EXPECT_EQ(read(4), "\x78\x56\x34\x12");
}

TEST_F(FirmwareConfigurationTest, FilesAreInADirectory) {
  device_.set_file("etc/one", {1});
  device_.set_file("etc/two", {2, 2});
  device_.set_file("etc/one", {1, 1, 1});
  select(Item::Directory);
  EXPECT_EQ(read_big_endian_32(), 2u);
  EXPECT_EQ(read_big_endian_32(), 3u);
  EXPECT_EQ(read(4), std::string("\0\x20\0\0", 4));
  EXPECT_EQ(read(56), "etc/one" + std::string(49, '\0'));
  EXPECT_EQ(read_big_endian_32(), 2u);
  EXPECT_EQ(read(4), std::string("\0\x21\0\0", 4));
  device_.write_port(0x510, 2, 0x21);
  EXPECT_EQ(read(2), "\2\2");
}

TEST_F(FirmwareConfigurationTest, TransfersAnItemToMemory) {
  device_.set(Item::SetupData, {'a', 'b', 'c', 'd'});
  EXPECT_EQ(transfer(selecting(Item::SetupData) | kRead, 3, 0x2000), 0u);
  EXPECT_EQ(in_memory(0x2000, 3), "abc");
  // Without a selection it goes on where it was, with zeros beyond the end.
  (*memory_->at(0x2000, 3))[2] = 'x';
  EXPECT_EQ(transfer(kRead, 3, 0x2000), 0u);
  EXPECT_EQ(in_memory(0x2000, 3), std::string("d\0\0", 3));
}

TEST_F(FirmwareConfigurationTest, TransfersWhatIsElsewhere) {
  std::vector<std::uint64_t> offsets;
  device_.set_source(Item::KernelData, {.size = 4, .read = [&](std::uint64_t offset, std::span<std::uint8_t> to) {
                                          offsets.push_back(offset);
                                          for (auto& byte : to) byte = static_cast<std::uint8_t>('a' + offset++);
                                          return true;
                                        }});
  EXPECT_EQ(transfer(selecting(Item::KernelData) | kRead, 3, 0x2000), 0u);
  EXPECT_EQ(in_memory(0x2000, 3), "abc");
  EXPECT_EQ(transfer(kRead, 3, 0x2000), 0u);
  EXPECT_EQ(in_memory(0x2000, 3), std::string("d\0\0", 3));
  EXPECT_EQ(offsets, (std::vector<std::uint64_t>{0, 3}));
  select(Item::KernelData);
  EXPECT_EQ(read(5), std::string("abcd\0", 5));
}

TEST_F(FirmwareConfigurationTest, WhatCannotBeReadIsAnError) {
  device_.set_source(Item::KernelData,
                     {.size = 4, .read = [](std::uint64_t, std::span<std::uint8_t>) { return false; }});
  EXPECT_EQ(transfer(selecting(Item::KernelData) | kRead, 4, 0x2000), kFailed);
  select(Item::KernelData);
  EXPECT_EQ(read(2), std::string(2, '\0'));
}

TEST_F(FirmwareConfigurationTest, SkipsBytes) {
  device_.set(Item::SetupData, {'a', 'b', 'c', 'd'});
  EXPECT_EQ(transfer(selecting(Item::SetupData) | kSkip, 2, 0), 0u);
  EXPECT_EQ(read(1), "c");
}

TEST_F(FirmwareConfigurationTest, RefusesToWriteToAnItem) {
  device_.set(Item::SetupData, {'a'});
  EXPECT_EQ(transfer(selecting(Item::SetupData) | kWrite, 1, 0x2000), kFailed);
  select(Item::SetupData);
  EXPECT_EQ(read(1), "a");
}

TEST_F(FirmwareConfigurationTest, ATransferToWhatIsNotWritableMemoryFails) {
  device_.set(Item::SetupData, {'a', 'b', 'c', 'd'});
  EXPECT_EQ(transfer(selecting(Item::SetupData) | kRead, 4, kRom), kFailed);
  EXPECT_EQ(in_memory(kRom, 4), std::string(4, '\0'));
  EXPECT_EQ(transfer(selecting(Item::SetupData) | kRead, 4, 1ull << 40), kFailed);
  EXPECT_EQ(transfer(selecting(Item::SetupData) | kRead, 0xffffffff, kMemorySize - 2), kFailed);
  EXPECT_EQ(transfer(selecting(Item::SetupData) | kRead, 4, ~0ull), kFailed);
}

TEST_F(FirmwareConfigurationTest, ACommandOutsideOfMemoryIsIgnored) {
  device_.set(Item::SetupData, {'a'});
  transfer(selecting(Item::SetupData) | kRead, 1, 0x2000, kMemorySize - 8);
  transfer(selecting(Item::SetupData) | kRead, 1, 0x2000, ~0ull - 3);
  EXPECT_EQ(in_memory(0x2000, 1), std::string(1, '\0'));
}

TEST_F(FirmwareConfigurationTest, TheHalfOfAnAddressCountsOnce) {
  device_.set(Item::SetupData, {'a'});
  device_.write_port(0x514, 4, __builtin_bswap32(7));
  device_.write_port(0x518, 4, 0);  // outside of memory
  EXPECT_EQ(transfer(selecting(Item::SetupData) | kRead, 1, 0x2000), 0u);
  EXPECT_EQ(in_memory(0x2000, 1), "a");
}

TEST_F(FirmwareConfigurationTest, GoesOnAfterARestoreAndForgetsAtAReset) {
  device_.set(Item::SetupData, {'a', 'b', 'c'});
  select(Item::SetupData);
  read(1);
  FirmwareConfiguration other(*memory_);
  other.set(Item::SetupData, {'a', 'b', 'c'});
  ASSERT_TRUE(other.restore(device_.save()));
  EXPECT_EQ(other.read_port(0x511, 1), std::uint32_t{'b'});
  other.reset();
  EXPECT_EQ(other.read_port(0x511, 1), std::uint32_t{'Q'});
  EXPECT_FALSE(other.restore(state::SavedUnit(2)));
}

}  // namespace
}  // namespace bulkhead::vdev
