// SPDX-License-Identifier: Apache-2.0
#include "firmware/acpi.hpp"

#include <gtest/gtest.h>
#include <unistd.h>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "firmware/aml.hpp"
#include "firmware/memory_layout.hpp"
#include "firmware/smbios.hpp"

namespace bulkhead::firmware {
namespace {

/// The tables as an operating system finds them: from the RSDP on, by their addresses.
class AcpiTest : public ::testing::Test {
 protected:
  explicit AcpiTest(std::uint32_t vp_count = 4) : machine_{.vp_count = vp_count} { find_tables(); }

  std::span<const std::uint8_t> at(std::uint64_t address, std::size_t size) const {
    return std::span(memory_).subspan(address - kAcpiTables, size);
  }
  void find_tables() {
    memory_ = build_acpi_tables(machine_, kAcpiTables);
    const std::uint64_t xsdt = get(at(kAcpiTables, 36), 24, 8);
    add(xsdt);
    const auto root = tables_.at("XSDT");
    for (std::size_t offset = 36; offset < root.size(); offset += 8) add(get(root, offset, 8));
    add(get(tables_.at("FACP"), 140, 8));
  }
  void add(std::uint64_t address) {
    const auto table = at(address, get(at(address, 8), 4, 4));
    tables_[std::string(table.begin(), table.begin() + 4)] = table;
  }

  MachineDescription machine_;
  Bytes memory_;
  std::map<std::string, std::span<const std::uint8_t>> tables_;
};

TEST_F(AcpiTest, RsdpHasItsSignatureAndBothChecksums) {
  const auto rsdp = at(kAcpiTables, 36);
  EXPECT_EQ(std::string(rsdp.begin(), rsdp.begin() + 8), "RSD PTR ");
  EXPECT_EQ(checksum(rsdp.first(20)), 0);
  EXPECT_EQ(checksum(rsdp), 0);
}

TEST_F(AcpiTest, EveryTableSumsToZero) {
  ASSERT_EQ(tables_.size(), 4u);
  for (const auto& [signature, table] : tables_) EXPECT_EQ(checksum(table), 0) << signature;
}

TEST_F(AcpiTest, FadtNamesTheHardware) {
  const auto fadt = tables_.at("FACP");
  EXPECT_EQ(fadt.size(), 276u);
  EXPECT_EQ(get(fadt, 46, 2), 9u);
  EXPECT_EQ(get(fadt, 48, 4), 0u);
  EXPECT_EQ(get(fadt, 56, 4), 0x600u);
  EXPECT_EQ(get(fadt, 64, 4), 0x604u);
  EXPECT_EQ(get(fadt, 76, 4), 0x608u);
  EXPECT_EQ(get(fadt, 108, 1), 0x32u);
  EXPECT_TRUE(get(fadt, 112, 4) & 1 << 10);
  EXPECT_FALSE(get(fadt, 112, 4) & 1 << 20);  // not hardware-reduced
  EXPECT_FALSE(get(fadt, 109, 2) & 1 << 1);   // no keyboard controller
  EXPECT_EQ(get(fadt, 120, 8), 0xcf9u);
  EXPECT_EQ(get(fadt, 128, 1), 6u);
  const std::uint64_t facs = get(fadt, 36, 4);
  EXPECT_EQ(facs % 64, 0u);
  EXPECT_EQ(get(at(facs, 8), 4, 4), 64u);
}

TEST_F(AcpiTest, MadtListsProcessorsAndOverrides) {
  const auto madt = tables_.at("APIC");
  std::map<unsigned, unsigned> counts;
  for (std::size_t offset = 44; offset < madt.size(); offset += madt[offset + 1]) ++counts[madt[offset]];
  EXPECT_EQ(counts, (std::map<unsigned, unsigned>{{0, 4}, {1, 1}, {2, 2}, {4, 1}}));
}

TEST(Madt, ManyProcessorsNeedX2Apic) {
  const Bytes tables = build_acpi_tables({.vp_count = 300}, kAcpiTables);
  EXPECT_LE(tables.size(), kAcpiTablesSize);
  const std::size_t madt = get(tables, get(tables, 24, 8) - kAcpiTables + 44, 8) - kAcpiTables;
  unsigned local = 0;
  unsigned x2 = 0;
  for (std::size_t offset = madt + 44; offset < madt + get(tables, madt + 4, 4); offset += tables[offset + 1]) {
    local += tables[offset] == 0;
    x2 += tables[offset] == 9;
  }
  EXPECT_EQ(local, 255u);
  EXPECT_EQ(x2, 45u);
}

/// Runs the ACPI compiler's disassembler over a table, and the compiler over what it gives.
class IaslTest : public AcpiTest, public ::testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override {
    if (std::system("iasl -v >/dev/null 2>&1") != 0) GTEST_SKIP() << "iasl (package acpica-tools) is not installed";
    directory_ = std::filesystem::temp_directory_path() / ("bulkhead-acpi-" + std::to_string(::getpid()));
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override {
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }
  std::string run(const std::string& arguments, int& status) {
    const auto log = directory_ / "log";
    status = std::system(("cd " + directory_.string() + " && iasl " + arguments + " >log 2>&1").c_str());
    return read(log);
  }
  static std::string read(const std::filesystem::path& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
  std::filesystem::path directory_;
};

TEST_P(IaslTest, FindsNothingToComplainOf) {
  machine_.keyboard_controller = true;
  machine_.vmbus = true;
  find_tables();
  const auto table = tables_.at(GetParam());
  std::ofstream(directory_ / "table.aml", std::ios::binary)
      .write(reinterpret_cast<const char*>(table.data()), static_cast<std::streamsize>(table.size()));
  int status = 0;
  const std::string disassembled = run("-d table.aml", status);
  EXPECT_EQ(status, 0) << disassembled;
  EXPECT_EQ(disassembled.find("rror"), std::string::npos) << disassembled;
  // 6033: identifiers have seven or eight characters. That of VMBus has five, and drivers look for just that.
  const std::string compiled = run("-vw 6033 -tc table.dsl", status);
  EXPECT_EQ(status, 0) << compiled;
  EXPECT_NE(compiled.find("0 Errors, 0 Warnings"), std::string::npos) << compiled << read(directory_ / "table.dsl");
}

INSTANTIATE_TEST_SUITE_P(Tables, IaslTest, ::testing::Values("FACP", "APIC", "XSDT", "DSDT"),
                         [](const auto& test) { return test.param; });

TEST(Aml, IntegersTakeTheShortestForm) {
  EXPECT_EQ(aml::integer(0), (Bytes{0x00}));
  EXPECT_EQ(aml::integer(1), (Bytes{0x01}));
  EXPECT_EQ(aml::integer(0x80), (Bytes{0x0a, 0x80}));
  EXPECT_EQ(aml::integer(0x1234), (Bytes{0x0b, 0x34, 0x12}));
  EXPECT_EQ(aml::integer(0x1'0000'0000), (Bytes{0x0e, 0, 0, 0, 0, 1, 0, 0, 0}));
}

TEST(Aml, EisaIdentifier) { EXPECT_EQ(aml::eisa_id("PNP0501"), (Bytes{0x0c, 0x41, 0xd0, 0x05, 0x01})); }

TEST(Aml, LengthsGrowByWholeBytes) {
  EXPECT_EQ(aml::scope("ABCD", Bytes(58))[1], 0x3f);
  const auto two = aml::scope("ABCD", Bytes(59));
  EXPECT_EQ(two.size(), 1u + 2 + 4 + 59);
  EXPECT_EQ(two[1], 0x40 | ((2 + 4 + 59) & 15));
  EXPECT_EQ(two[2], (2 + 4 + 59) >> 4);
  const auto three = aml::scope("ABCD", Bytes(5000));
  EXPECT_EQ(three[1] >> 6, 2);
}

TEST(Smbios, EntryPointAndStructuresAreWellFormed) {
  MachineDescription machine;
  machine.uuid[15] = 0x42;
  const Bytes smbios = build_smbios(machine, kSmbios);
  EXPECT_EQ(std::string(smbios.begin(), smbios.begin() + 5), "_SM3_");
  EXPECT_EQ(checksum(std::span(smbios).first(24)), 0);
  std::size_t offset = get(smbios, 16, 8) - kSmbios;
  std::vector<unsigned> types;
  while (offset < smbios.size()) {
    types.push_back(smbios[offset]);
    if (types.back() == 1) {
      EXPECT_EQ(smbios[offset + 8 + 15], 0x42);
    }
    offset += smbios[offset + 1];
    while (smbios[offset] != 0 || smbios[offset + 1] != 0) ++offset;
    offset += 2;
  }
  EXPECT_EQ(offset, smbios.size());
  EXPECT_EQ(types, (std::vector<unsigned>{0, 1, 3, 32, 127}));
}

}  // namespace
}  // namespace bulkhead::firmware
