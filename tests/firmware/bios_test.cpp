// SPDX-License-Identifier: Apache-2.0
#include "firmware/bios.hpp"

#include "tests/firmware/kernels.hpp"

namespace bulkhead::firmware {
namespace {

using vdev::FirmwareConfiguration;
using Item = FirmwareConfiguration::Item;

constexpr std::size_t kBiosSize = 0x2'0000;

class BiosTest : public testing::Test {
 protected:
  void make_memory(std::uint64_t low, std::uint64_t high = 0) {
    std::vector<engine::GuestMemory::Range> ranges{{.base = 0, .size = low}, *bios_range(kBiosSize)};
    if (high > 0) ranges.push_back({.base = kFourGib, .size = high});
    memory_ = *engine::GuestMemory::allocate(ranges);
    configuration_.emplace(*memory_);
  }
  Result<> load(std::string_view command_line = "quiet") {
    return load_bios(
        *memory_, *configuration_,
        {.bios = bios_, .boot_rom = boot_rom_, .kernel = kernel_, .initrd = initrd_, .command_line = command_line},
        {.vp_count = 3});
  }
  Bytes read(std::uint16_t item, std::size_t size) {
    configuration_->write_port(0x510, 2, item);
    Bytes bytes;
    for (std::size_t index = 0; index < size; ++index) {
      bytes.push_back(static_cast<std::uint8_t>(configuration_->read_port(0x511, 1)));
    }
    return bytes;
  }
  std::uint64_t number(Item item, unsigned size) { return get(read(static_cast<std::uint16_t>(item), size), 0, size); }
  /// A file as the BIOS finds it: by its name in the directory.
  Bytes file(std::string_view name) {
    const auto directory = static_cast<std::uint16_t>(Item::Directory);
    const unsigned count = read(directory, 4)[3];
    const Bytes entries = read(directory, 4 + 64 * count);
    for (unsigned index = 0; index < count; ++index) {
      const std::size_t at = 4 + std::size_t{64} * index;
      if (std::string(reinterpret_cast<const char*>(&entries[at + 8])) != name) continue;
      const std::size_t size = __builtin_bswap32(static_cast<std::uint32_t>(get(entries, at, 4)));
      return read(__builtin_bswap16(static_cast<std::uint16_t>(get(entries, at + 4, 2))), size);
    }
    ADD_FAILURE() << "no file " << name;
    return {};
  }

  Bytes bios_ = Bytes(kBiosSize, 0xb1);
  Bytes boot_rom_ = Bytes(512, 0x55);
  Bytes kernel_ = bzimage();
  Bytes initrd_ = Bytes(5000, 0x77);
  std::unique_ptr<engine::GuestMemory> memory_;
  std::optional<FirmwareConfiguration> configuration_;
};

TEST_F(BiosTest, LiesAtTheEndOfThe4GiBAndBelow1MiB) {
  make_memory(64 * kMib);
  bios_.back() = 0xee;
  ASSERT_TRUE(load());
  EXPECT_EQ(number_at(*memory_, kFourGib - 1, 1), 0xeeu);
  EXPECT_EQ(number_at(*memory_, kMib - 1, 1), 0xeeu);
  EXPECT_EQ(number_at(*memory_, kMib - kBiosSize, 1), 0xb1u);
  EXPECT_FALSE(memory_->find(kFourGib - 1)->writable);
}

TEST_F(BiosTest, GivesTheKernelToTheBootRom) {
  make_memory(64 * kMib);
  ASSERT_TRUE(load("console=ttyS0"));
  const std::uint64_t setup_size = number(Item::SetupSize, 4);
  ASSERT_EQ(setup_size, 5 * 512u);
  const Bytes setup = read(static_cast<std::uint16_t>(Item::SetupData), setup_size);
  EXPECT_EQ(get(setup, 0x210, 1), 0xffu);                                // an unknown loader
  EXPECT_EQ(get(setup, 0x211, 1), 0x81u);                                // loaded high, may use its heap
  EXPECT_EQ(get(setup, 0x228, 4), number(Item::CommandLineAddress, 4));  // where its command line is
  EXPECT_LT(number(Item::SetupAddress, 4) + 0x200 + get(setup, 0x224, 2), get(setup, 0x228, 4) + 1);
  EXPECT_EQ(number(Item::KernelAddress, 4), kMib);
  EXPECT_EQ(number(Item::KernelSize, 4), 0x10000u);
  EXPECT_EQ(read(static_cast<std::uint16_t>(Item::KernelData), 0x10000), Bytes(0x10000, 0xa5));
  EXPECT_EQ(number(Item::InitrdSize, 4), 5000u);
  EXPECT_EQ(number(Item::InitrdAddress, 4), 63 * kMib - 0x10000 - 8192);  // below what the BIOS takes
  EXPECT_EQ(get(setup, 0x218, 4), number(Item::InitrdAddress, 4));
  EXPECT_EQ(get(setup, 0x21c, 4), 5000u);
  EXPECT_EQ(read(static_cast<std::uint16_t>(Item::InitrdData), 5000), initrd_);
  EXPECT_EQ(number(Item::CommandLineSize, 4), 14u);
  EXPECT_EQ(read(static_cast<std::uint16_t>(Item::CommandLineData), 14),
            ByteWriter().text("console=ttyS0").u8(0).content());
  EXPECT_EQ(file("genroms/linuxboot_dma.bin"), boot_rom_);
}

TEST_F(BiosTest, DescribesTheMachine) {
  make_memory(64 * kMib, 32 * kMib);
  ASSERT_TRUE(load());
  EXPECT_EQ(number(Item::PresentProcessors, 2), 3u);
  EXPECT_EQ(number(Item::MaximumProcessors, 2), 3u);
  const Bytes map = file("etc/e820");
  ASSERT_EQ(map.size() % 20, 0u);
  std::uint64_t usable = 0;
  for (std::size_t at = 0; at < map.size(); at += 20) {
    if (get(map, at + 16, 4) == 1) usable += get(map, at + 8, 8);
  }
  EXPECT_EQ(usable, 96 * kMib - 0x10000);
}

TEST_F(BiosTest, TheRsdpThatTheBiosPlacesLeadsToTablesInReservedMemory) {
  make_memory(64 * kMib);
  ASSERT_TRUE(load());
  const Bytes rsdp = file("etc/acpi/rsdp");
  ASSERT_EQ(rsdp.size(), 36u);
  EXPECT_EQ(checksum(std::span(rsdp).first(20)), 0);
  EXPECT_EQ(checksum(rsdp), 0);
  const std::uint64_t xsdt = get(rsdp, 24, 8);
  EXPECT_GE(xsdt, 64 * kMib - 0x10000);
  EXPECT_EQ(text_at(*memory_, xsdt).substr(0, 4), "XSDT");
  const Bytes commands = file("etc/table-loader");
  ASSERT_EQ(commands.size(), 128u);
  EXPECT_EQ(get(commands, 0, 4), 1u);  // find room
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(&commands[4])), "etc/acpi/rsdp");
  EXPECT_EQ(commands[64], 2);  // where software searches
}

TEST_F(BiosTest, ABiosHasACertainSize) {
  EXPECT_TRUE(bios_range(0x4'0000));
  EXPECT_FALSE(bios_range(0x1'0000));
  EXPECT_FALSE(bios_range(0x2'0001));
  EXPECT_FALSE(bios_range(0x20'0000));
}

TEST_F(BiosTest, RefusesWhatItCannotStart) {
  make_memory(64 * kMib);
  const auto why = [&] { return load().error().message(); };
  kernel_ = Bytes(100, 1);
  EXPECT_EQ(why(), "a BIOS can start only a Linux bzImage, which the kernel is not");
  kernel_ = bzimage();
  kernel_.resize(0x240);
  EXPECT_EQ(why(), "the kernel is cut short: its header is not complete");
  kernel_ = bzimage();
  kernel_.resize(5 * 512);
  EXPECT_EQ(why(), "the kernel is cut short: it ends with its setup code");
  kernel_ = bzimage();
  put(kernel_, 0x211, 0, 1);
  EXPECT_EQ(why(), "the kernel is a zImage or too old; a bzImage of boot protocol 2.02 or later is needed");
  kernel_ = bzimage();
  EXPECT_EQ(load(std::string(2048, 'x')).error().message(),
            "the command line is too long: it has 2048 characters, the kernel takes 2047");
  initrd_ = Bytes(64 * kMib);
  EXPECT_EQ(why(), "the kernel and its initrd need more memory than the machine has: 64 MiB");
}

}  // namespace
}  // namespace bulkhead::firmware
