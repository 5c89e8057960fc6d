// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/root/linux_image.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace bulkhead::hypervisor::root {
namespace {

class LinuxImageTest : public testing::Test {
 protected:
  LinuxImageTest() : file(0x20000) {
    set<std::uint8_t>(0x1f1, 39);
    set<std::uint8_t>(0x201, 0x6a);
    std::memcpy(file.data() + 0x202, "HdrS", 4);
    set<std::uint16_t>(0x206, 0x20f);
    set<std::uint8_t>(0x211, 1);
    set<std::uint32_t>(0x22c, 0x7fffffff);
    set<std::uint32_t>(0x230, 0x200000);
    set<std::uint8_t>(0x234, 1);
    set<std::uint32_t>(0x238, 2047);
    set<std::uint64_t>(0x258, 0x1000000);
    set<std::uint32_t>(0x260, 0x3000000);
  }

  template <typename T>
  void set(std::size_t offset, T value) {
    std::memcpy(file.data() + offset, &value, sizeof value);
  }

  std::vector<std::byte> file;
};

template <typename T>
T get(const BootParameters& parameters, std::size_t offset) {
  T value;
  std::memcpy(&value, parameters.data() + offset, sizeof value);
  return value;
}

TEST_F(LinuxImageTest, TheHeaderSaysWhereTheKernelGoes) {
  const auto image = read_linux_image(file);
  ASSERT_TRUE(image);
  EXPECT_EQ(image->kernel_offset, 40u * 512);
  EXPECT_EQ(image->kernel_size, file.size() - 40 * 512);
  EXPECT_EQ(image->preferred_address, 0x1000000u);
  EXPECT_EQ(image->memory_needed, 0x3000000u);
  EXPECT_TRUE(image->relocatable);
}

TEST_F(LinuxImageTest, OtherFilesAreRefusedWithTheReason) {
  EXPECT_STREQ(read_linux_image(std::span(file).first(100)).error(), "the kernel's file is too short for a bzImage");
  file[0x202] = std::byte{'X'};
  EXPECT_STREQ(read_linux_image(file).error(), "the kernel is no bzImage");
}

TEST_F(LinuxImageTest, OldBootProtocolsAreRefused) {
  set<std::uint16_t>(0x206, 0x205);
  EXPECT_FALSE(read_linux_image(file));
}

TEST_F(LinuxImageTest, AnAlignmentThatIsNoPowerOfTwoIsRefused) {
  set<std::uint32_t>(0x230, 0x180000);
  EXPECT_FALSE(read_linux_image(file));
  set<std::uint32_t>(0x230, 0);
  EXPECT_FALSE(read_linux_image(file));
}

TEST_F(LinuxImageTest, AFileThatEndsInItsSetupCodeIsRefused) {
  EXPECT_FALSE(read_linux_image(std::span(file).first(40 * 512)));
}

TEST_F(LinuxImageTest, AKernelNeedsAtLeastItsOwnSize) {
  set<std::uint32_t>(0x260, 16);
  EXPECT_EQ(read_linux_image(file)->memory_needed, file.size() - 40 * 512);
}

TEST_F(LinuxImageTest, BootParametersHoldThePlacementAndTheMemoryMap) {
  MemoryMap memory;
  memory.add({0, 0x9fc00, MemoryType::Usable});
  memory.add({0x3fe00000, 0x2b000, MemoryType::Reserved});
  BootParameters parameters;
  parameters.fill(std::byte{0xff});
  build_boot_parameters(file, {0x1000000, 0x12345000, 0x777, 0x11000, 0xf5a30}, memory, parameters);
  EXPECT_EQ(std::memcmp(parameters.data() + 0x202, "HdrS", 4), 0);
  EXPECT_EQ(get<std::uint8_t>(parameters, 0x210), 0xff);
  EXPECT_EQ(get<std::uint32_t>(parameters, 0x214), 0x1000000u);
  EXPECT_EQ(get<std::uint32_t>(parameters, 0x218), 0x12345000u);
  EXPECT_EQ(get<std::uint32_t>(parameters, 0x21c), 0x777u);
  EXPECT_EQ(get<std::uint32_t>(parameters, 0x228), 0x11000u);
  EXPECT_EQ(get<std::uint64_t>(parameters, 0x070), 0xf5a30u);
  EXPECT_EQ(get<std::uint8_t>(parameters, 0x1e8), 2);
  EXPECT_EQ(get<std::uint64_t>(parameters, 0x2d0 + 20), 0x3fe00000u);
  EXPECT_EQ(get<std::uint64_t>(parameters, 0x2d0 + 28), 0x2b000u);
  EXPECT_EQ(get<std::uint32_t>(parameters, 0x2d0 + 36), 2u);
}

TEST_F(LinuxImageTest, BootParametersHoldTheFramebufferOfTheFirmware) {
  LinuxPlacement placement{0x1000000, 0, 0, 0x11000, 0xf0000};
  placement.framebuffer = {0x12'80000000, 4096, 1024, 768, 32, {{{16, 8}, {8, 8}, {0, 8}}}};
  BootParameters parameters;
  build_boot_parameters(file, placement, MemoryMap(), parameters);
  const auto read = [&]<typename T>(std::size_t offset, T) {
    T value;
    std::memcpy(&value, parameters.data() + offset, sizeof value);
    return value;
  };
  EXPECT_EQ(read(0x0f, std::uint8_t{}), 0x23);  // VIDEO_TYPE_VLFB
  EXPECT_EQ(read(0x12, std::uint16_t{}), 1024);
  EXPECT_EQ(read(0x14, std::uint16_t{}), 768);
  EXPECT_EQ(read(0x16, std::uint16_t{}), 32);
  EXPECT_EQ(read(0x18, std::uint32_t{}), 0x80000000);
  EXPECT_EQ(read(0x1c, std::uint32_t{}), 48u);  // in units of 64 KiB
  EXPECT_EQ(read(0x24, std::uint16_t{}), 4096);
  EXPECT_EQ(read(0x26, std::uint8_t{}), 8);  // red: size, position
  EXPECT_EQ(read(0x27, std::uint8_t{}), 16);
  EXPECT_EQ(read(0x36, std::uint32_t{}), 2u);  // the address has 64 bits
  EXPECT_EQ(read(0x3a, std::uint32_t{}), 0x12u);
}

TEST_F(LinuxImageTest, NothingBehindTheHeaderIsTakenFromTheFile) {
  set<std::uint8_t>(0x201, 0xff);
  set<std::uint64_t>(0x2d0, 0x1122334455667788);
  BootParameters parameters;
  build_boot_parameters(file, {}, MemoryMap{}, parameters);
  EXPECT_EQ(get<std::uint64_t>(parameters, 0x2d0), 0u);
}

}  // namespace
}  // namespace bulkhead::hypervisor::root
