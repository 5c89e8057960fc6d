// SPDX-License-Identifier: Apache-2.0
#include "firmware/linux_loader.hpp"

#include "tests/firmware/kernels.hpp"

namespace bulkhead::firmware {
namespace {

using abi::RegisterName;

TEST(LinuxLoader, EntersAt64BitEntryWithBootParameters) {
  auto memory = machine_memory(128 * kMib);
  const auto state = load(*memory, bzimage(), {}, "console=ttyS0", {});
  ASSERT_TRUE(state.has_value()) << why(state);
  EXPECT_EQ(value_of(*state, RegisterName::Rip).number, 16 * kMib + 0x200);
  EXPECT_EQ(value_of(*state, RegisterName::Rsi).number, kBootInformation);
  EXPECT_EQ(value_of(*state, RegisterName::Rflags).number & 1 << 9, 0u);
  EXPECT_EQ(value_of(*state, RegisterName::Cs).segment.selector, 0x10);
  EXPECT_EQ(value_of(*state, RegisterName::Cs).segment.attributes, 0xa09b);
  EXPECT_EQ(value_of(*state, RegisterName::Ds).segment.selector, 0x18);
  EXPECT_EQ(value_of(*state, RegisterName::Ds).segment.attributes, 0xc093);
  EXPECT_EQ(bytes_at(*memory, 16 * kMib, 0x10000), Bytes(0x10000, 0xa5));
}

TEST(LinuxLoader, MapsTheFirst4GibToThemselves) {
  auto memory = machine_memory(128 * kMib);
  const auto state = load(*memory, bzimage(), {}, "", {});
  ASSERT_TRUE(state.has_value());
  for (std::uint64_t address : {0x0ull, 0x1234567ull, 0xfee00000ull, 0xffffffffull}) {
    const std::uint64_t root = value_of(*state, RegisterName::Cr3).number;
    const std::uint64_t pointers = number_at(*memory, root + 8 * (address >> 39 & 511), 8);
    const std::uint64_t directory = number_at(*memory, (pointers & ~0xfffull) + 8 * (address >> 30 & 511), 8);
    const std::uint64_t page = number_at(*memory, (directory & ~0xfffull) + 8 * (address >> 21 & 511), 8);
    EXPECT_EQ(pointers & directory & 3, 3u);
    EXPECT_EQ(page, (address & ~0x1fffffull) | 0x83);
  }
}

TEST(LinuxLoader, BootParametersDescribeTheMachine) {
  auto memory = machine_memory(128 * kMib, 64 * kMib);
  const Bytes initrd(5000, 0x77);
  ASSERT_TRUE(load(*memory, bzimage(), initrd, "quiet", {.vp_count = 2}).has_value());
  const auto parameter = [&](std::uint64_t offset, unsigned size) {
    return number_at(*memory, kBootInformation + offset, size);
  };
  EXPECT_EQ(parameter(0x202, 4), 0x5372'6448u);
  EXPECT_EQ(parameter(0x210, 1), 0xffu);
  EXPECT_EQ(text_at(*memory, parameter(0x228, 4)), "quiet");
  EXPECT_EQ(parameter(0x21c, 4), 5000u);
  const std::uint64_t ramdisk = parameter(0x218, 4);
  EXPECT_EQ(ramdisk, 128 * kMib - 8192);
  EXPECT_EQ(bytes_at(*memory, ramdisk, 5000), initrd);
  const std::uint64_t rsdp = parameter(0x070, 8);
  EXPECT_EQ(text_at(*memory, rsdp).substr(0, 8), "RSD PTR ");

  ASSERT_EQ(parameter(0x1e8, 1), 5u);
  std::uint64_t usable = 0;
  for (unsigned i = 0; i < 5; ++i) {
    const std::uint64_t base = parameter(0x2d0 + 20 * i, 8);
    const std::uint64_t size = parameter(0x2d8 + 20 * i, 8);
    if (parameter(0x2e0 + 20 * i, 4) != 1) continue;
    usable += size;
    EXPECT_FALSE(base <= rsdp && rsdp < base + size);
  }
  EXPECT_EQ(usable, 192 * kMib - (kHighMemory - kExtendedBiosDataArea));
}

TEST(LinuxLoader, TheInitrdStaysBelowWhatTheKernelAllows) {
  auto memory = machine_memory(256 * kMib);
  Bytes kernel = bzimage();
  put(kernel, 0x22c, 100 * kMib - 1, 4);
  ASSERT_TRUE(load(*memory, kernel, Bytes(4096), "", {}).has_value());
  EXPECT_EQ(number_at(*memory, kBootInformation + 0x218, 4), 100 * kMib - 4096);
}

TEST(LinuxLoader, AKernelWithout64BitEntryBeginsIn32BitMode) {
  auto memory = machine_memory(128 * kMib);
  Bytes kernel = bzimage();
  put(kernel, 0x236, 0, 2);
  const auto state = load(*memory, kernel, {}, "", {});
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(value_of(*state, RegisterName::Rip).number, 16 * kMib);
  EXPECT_EQ(value_of(*state, RegisterName::Cr0).number, 0x11u);
  EXPECT_EQ(value_of(*state, RegisterName::Cs).segment.attributes, 0xc09b);
  EXPECT_EQ(value_of(*state, RegisterName::Rsi).number, kBootInformation);
}

TEST(LinuxLoader, AKernelWithARealModeEntryOnlyNeedsABios) {
  auto memory = machine_memory(128 * kMib);
  Bytes kernel = bzimage();
  put(kernel, 0x236, 0, 2);
  put(kernel, 0x214, 0, 4);
  EXPECT_EQ(why(load(*memory, kernel, {}, "", {})),
            "the kernel can be entered in real mode only: it needs a BIOS (--firmware bios)");
}

TEST(LinuxLoader, SaysWhatIsWrongWithTheKernel) {
  auto memory = machine_memory(128 * kMib);
  const auto complaint = [&](const Bytes& kernel) { return why(load(*memory, kernel, {}, "", {})); };
  EXPECT_EQ(complaint({}), "the kernel file is empty");
  EXPECT_EQ(complaint(Bytes(100'000, 0x20)), "the kernel is neither a Linux bzImage nor a Multiboot image");
  EXPECT_EQ(complaint({0x7f, 'E', 'L', 'F', 2, 1, 1}),
            "the kernel is an ELF file without a Multiboot header; of Linux, give the bzImage (vmlinuz)");
  Bytes kernel = bzimage();
  kernel.resize(kernel.size() - 100);
  EXPECT_EQ(complaint(kernel), "the Linux kernel is cut short: it has 67996 bytes of the 68096 that its header names");
  kernel.resize(0x220);
  EXPECT_EQ(complaint(kernel), "the Linux kernel is cut short: its header is not complete");
  kernel = bzimage();
  put(kernel, 0x206, 0x204, 2);
  EXPECT_EQ(complaint(kernel), "the Linux kernel is too old: its boot protocol is 2.04, at least 2.06 is needed");
  kernel = bzimage();
  put(kernel, 0x211, 0, 1);
  EXPECT_EQ(complaint(kernel), "the Linux kernel is a zImage; only a bzImage can be loaded");
  kernel = bzimage();
  put(kernel, 0x258, 0xffff'ffff'ffff'f000, 8);
  EXPECT_NE(complaint(kernel).find("where no kernel can be"), std::string::npos);
}

TEST(Place, CopiesAcrossRegionsThatTouchAndSaysWhatDoesNotFitOrCannotBeRead) {
  const std::vector<engine::GuestMemory::Range> ranges{{0, 0x1000}, {0x1000, 0x1000}};
  auto memory = *engine::GuestMemory::allocate(ranges);
  const Bytes file(0x1800, 0x5a);
  ASSERT_TRUE(place(*memory, 0x400, file, "the initrd", copy_bytes).has_value());
  EXPECT_EQ(bytes_at(*memory, 0x400, 0x1800), file);
  EXPECT_EQ(number_at(*memory, 0x1c00, 1), 0u);
  EXPECT_EQ(place(*memory, 0x900, file, "the initrd", copy_bytes).error().message(),
            "the machine has no memory for the initrd");
  const Copy broken = [](auto, auto) -> Result<> { return fail("it cannot be read"); };
  EXPECT_EQ(place(*memory, 0, file, "the initrd", broken).error().message(), "it cannot be read");
}

TEST(LinuxLoader, SaysWhatDoesNotFit) {
  auto small = machine_memory(32 * kMib);
  EXPECT_EQ(why(load(*small, bzimage(), {}, "", {})),
            "the kernel needs more memory: at least 48 MiB, the machine has 32 MiB");
  auto memory = machine_memory(64 * kMib);
  EXPECT_EQ(why(load(*memory, bzimage(), Bytes(17 * kMib), "", {})),
            "the initrd is too large: it has 17 MiB, and 16 MiB are left beside the kernel");
  EXPECT_EQ(why(load(*memory, bzimage(), {}, std::string(2048, 'x'), {})),
            "the command line is too long: it has 2048 characters, the kernel takes 2047");
  EXPECT_EQ(why(load(*memory, bzimage(), Bytes(16 * kMib), std::string(2047, 'x'), {})), "loaded");
}

TEST(LinuxLoader, AnyHeaderEndsInAnAnswer) {
  auto memory = machine_memory(64 * kMib);
  std::uint32_t random = 3;
  for (int i = 0; i < 3000; ++i) {
    Bytes kernel = bzimage(0x400);
    for (int change = 0; change < 6; ++change) {
      random = random * 1664525 + 1013904223;
      const std::size_t offset = 0x1f1 + (random >> 8) % 0x77;
      if (offset < 0x1fe || offset >= 0x206) kernel[offset] = static_cast<std::uint8_t>(random >> 24);
    }
    if (random % 7 == 0) kernel.resize(random % kernel.size());
    static_cast<void>(load(*memory, kernel, Bytes(100), "x", {}));
  }
}

}  // namespace
}  // namespace bulkhead::firmware
