// SPDX-License-Identifier: Apache-2.0
#include "firmware/multiboot_loader.hpp"

#include <elf.h>

#include "tests/firmware/kernels.hpp"

namespace bulkhead::firmware {
namespace {

using abi::RegisterName;

void put_header(Bytes& file, std::size_t offset, std::uint32_t flags) {
  put(file, offset, 0x1bad'b002, 4);
  put(file, offset + 4, flags, 4);
  put(file, offset + 8, 0 - (0x1bad'b002ull + flags), 4);
}

/// A 32-bit ELF image with one segment of 4 KiB, 8 KiB in memory, linked at `linear` and loaded at `physical`.
Bytes elf(std::uint32_t physical, std::uint32_t linear, std::uint32_t flags = 3) {
  Bytes file(0x2000, 0);
  Elf32_Ehdr header{};
  std::copy_n(ELFMAG, SELFMAG, reinterpret_cast<char*>(header.e_ident));
  header.e_ident[EI_CLASS] = ELFCLASS32;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = ET_EXEC;
  header.e_machine = EM_386;
  header.e_entry = linear + 0x20;
  header.e_phoff = sizeof(header);
  header.e_phentsize = sizeof(Elf32_Phdr);
  header.e_phnum = 1;
  Elf32_Phdr segment{};
  segment.p_type = PT_LOAD;
  segment.p_offset = 0x1000;
  segment.p_vaddr = linear;
  segment.p_paddr = physical;
  segment.p_filesz = 0x1000;
  segment.p_memsz = 0x2000;
  std::copy_n(reinterpret_cast<const std::uint8_t*>(&header), sizeof(header), file.begin());
  std::copy_n(reinterpret_cast<const std::uint8_t*>(&segment), sizeof(segment), file.begin() + sizeof(header));
  std::fill(file.begin() + 0x1000, file.end(), std::uint8_t{0xc3});
  put_header(file, 0x1000, flags);
  return file;
}

TEST(MultibootLoader, EntersAnElfImageWithItsInformation) {
  auto memory = machine_memory(16 * kMib);
  ASSERT_TRUE(memory->write(kMib, Bytes(0x2000, 0xff)));
  const auto state = load(*memory, elf(kMib, 0xc010'0000), {}, "a=b", {});
  ASSERT_TRUE(state.has_value()) << why(state);
  EXPECT_EQ(value_of(*state, RegisterName::Rip).number, kMib + 0x20);
  EXPECT_EQ(value_of(*state, RegisterName::Rax).number, 0x2bad'b002u);
  const std::uint64_t information = value_of(*state, RegisterName::Rbx).number;
  EXPECT_EQ(value_of(*state, RegisterName::Cr0).number & 0x8000'0001, 1u);
  EXPECT_EQ(value_of(*state, RegisterName::Cs).segment.attributes, 0xc09b);
  EXPECT_EQ(value_of(*state, RegisterName::Ss).segment.limit, UINT32_MAX);
  EXPECT_EQ(bytes_at(*memory, kMib + 0x1000, 0x1000), Bytes(0x1000, 0));

  EXPECT_EQ(number_at(*memory, information, 4), 0x245u);  // memory, command line, memory map, loader name
  EXPECT_EQ(number_at(*memory, information + 4, 4), 639u);
  EXPECT_EQ(number_at(*memory, information + 8, 4), 15u * 1024);
  EXPECT_EQ(text_at(*memory, number_at(*memory, information + 16, 4)), "a=b");
  EXPECT_EQ(text_at(*memory, number_at(*memory, information + 64, 4)), "Bulkhead");
  std::uint64_t entry = number_at(*memory, information + 48, 4);
  const std::uint64_t end = entry + number_at(*memory, information + 44, 4);
  unsigned usable = 0;
  for (; entry < end; entry += 4 + number_at(*memory, entry, 4)) usable += number_at(*memory, entry + 20, 4) == 1;
  EXPECT_EQ(usable, 2u);
}

TEST(MultibootLoader, TheInitrdIsAPageAlignedModule) {
  auto memory = machine_memory(16 * kMib);
  const Bytes module(100, 0x11);
  const auto state = load(*memory, elf(kMib, kMib), module, "", {});
  ASSERT_TRUE(state.has_value());
  const std::uint64_t information = value_of(*state, RegisterName::Rbx).number;
  ASSERT_EQ(number_at(*memory, information + 20, 4), 1u);
  const std::uint64_t entry = number_at(*memory, information + 24, 4);
  const std::uint64_t begin = number_at(*memory, entry, 4);
  EXPECT_EQ(begin, kMib + 0x2000);
  EXPECT_EQ(number_at(*memory, entry + 4, 4), begin + 100);
  EXPECT_EQ(text_at(*memory, number_at(*memory, entry + 8, 4)), "initrd");
  EXPECT_EQ(bytes_at(*memory, begin, 100), module);
}

/// Any file whose header has the addresses: here the file is loaded from its start to 2 MiB.
Bytes with_addresses(std::uint32_t load_end, std::uint32_t zero_end) {
  Bytes file(0x1000, 0x90);
  put_header(file, 0x40, 1 << 16);
  put(file, 0x4c, 2 * kMib + 0x40, 4);
  put(file, 0x50, 2 * kMib, 4);
  put(file, 0x54, load_end, 4);
  put(file, 0x58, zero_end, 4);
  put(file, 0x5c, 2 * kMib + 0x100, 4);
  return file;
}

TEST(MultibootLoader, LoadsByTheAddressesInTheHeader) {
  auto memory = machine_memory(16 * kMib);
  ASSERT_TRUE(memory->write(2 * kMib, Bytes(0x4000, 0xff)));
  const auto state = load(*memory, with_addresses(2 * kMib + 0x800, 2 * kMib + 0x3000), {}, "", {});
  ASSERT_TRUE(state.has_value()) << why(state);
  EXPECT_EQ(value_of(*state, RegisterName::Rip).number, 2 * kMib + 0x100);
  EXPECT_EQ(number_at(*memory, 2 * kMib + 0x7fc, 4), 0x9090'9090u);
  EXPECT_EQ(bytes_at(*memory, 2 * kMib + 0x800, 0x2800), Bytes(0x2800, 0));
  EXPECT_EQ(number_at(*memory, 2 * kMib + 0x3000, 1), 0xffu);
  EXPECT_EQ(why(load(*memory, with_addresses(0, 0), {}, "", {})), "loaded");
}

TEST(MultibootLoader, SaysThatItsFileCannotBeRead) {
  const Copy broken = [](auto, auto) -> Result<> { return fail("it cannot be read"); };
  auto memory = machine_memory(16 * kMib);
  EXPECT_EQ(why(load(*memory, elf(0x100000, 0x100000), {}, "", {}, broken)), "it cannot be read");
}

TEST(MultibootLoader, SaysWhatIsWrong) {
  auto memory = machine_memory(16 * kMib);
  const auto complaint = [&](const Bytes& kernel) { return why(load(*memory, kernel, {}, "", {})); };
  EXPECT_NE(complaint(elf(kMib, kMib, 4)).find("a video mode"), std::string::npos);
  EXPECT_NE(complaint(elf(0x8000, 0x8000)).find("it must be in the memory from"), std::string::npos);
  EXPECT_NE(complaint(elf(0xf'f000, 0xf'f000)).find("it must be in the memory from"), std::string::npos);
  EXPECT_NE(complaint(elf(16 * kMib, 16 * kMib)).find("does not fit into the machine's memory"), std::string::npos);
  EXPECT_NE(complaint(with_addresses(2 * kMib + 0x2000, 0)).find("cut short"), std::string::npos);
  Bytes file = elf(kMib, kMib);
  file[EI_CLASS] = ELFCLASS64;
  EXPECT_EQ(complaint(file), "the Multiboot kernel is no 32-bit x86 ELF image, and its header gives no addresses");
  file = elf(kMib, kMib);
  file.resize(0x1800);
  EXPECT_EQ(complaint(file), "the ELF kernel is cut short: a segment lies behind the end of the file");
  EXPECT_NE(why(load(*memory, elf(kMib, kMib), Bytes(15 * kMib), "", {})).find("the initrd is too large"),
            std::string::npos);
  EXPECT_NE(why(load(*memory, elf(kMib, kMib), {}, std::string(70000, 'x'), {})).find("too long"), std::string::npos);
}

TEST(MultibootLoader, AnyHeaderEndsInAnAnswer) {
  auto memory = machine_memory(4 * kMib);
  std::uint32_t random = 3;
  const auto next = [&random] { return random = random * 1664525 + 1013904223; };
  for (int i = 0; i < 5000; ++i) {
    Bytes kernel = i % 2 ? elf(kMib, kMib) : with_addresses(0, 0);
    const std::size_t begin = i % 2 ? 4 : 0x4c;
    for (int change = 0; change < 3; ++change)
      kernel[begin + (next() >> 8) % 0x60] = static_cast<std::uint8_t>(next() >> 24);
    static_cast<void>(load(*memory, kernel, {}, "", {}));
  }
}

}  // namespace
}  // namespace bulkhead::firmware
