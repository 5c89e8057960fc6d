// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/boot/acpi.hpp"

#include <string_view>

#include "hypervisor/boot/boot.hpp"

namespace bulkhead::hypervisor::boot {
namespace {

std::uint8_t sum(const std::byte* bytes, std::size_t size) {
  std::uint8_t total = 0;
  for (std::size_t index = 0; index < size; ++index)
    total = static_cast<std::uint8_t>(total + static_cast<std::uint8_t>(bytes[index]));
  return total;
}

std::uint64_t find_rsdp(std::uint64_t start, std::uint64_t end) {
  for (std::uint64_t address = start; address + 20 <= end; address += 16) {
    if (std::memcmp(at(address), "RSD PTR ", 8) == 0 && sum(at(address), 20) == 0) return address;
  }
  return 0;
}

constexpr std::size_t kHeaderSize = 36;

bool is(const std::byte* table, std::string_view signature) { return std::memcmp(table, signature.data(), 4) == 0; }
std::uint32_t length_of(const std::byte* table) { return read<std::uint32_t>(table + 4); }

/// Calls `visit` with each table that RSDT or XSDT names.
template <typename Visit>
void for_each_table(std::uint64_t rsdp, Visit visit) {
  const std::byte* root = at(rsdp);
  const bool extended = read<std::uint8_t>(root + 15) >= 2 && read<std::uint64_t>(root + 24) != 0;
  const std::byte* list = extended ? at(read<std::uint64_t>(root + 24)) : at(read<std::uint32_t>(root + 16));
  const std::size_t width = extended ? 8 : 4;
  for (std::size_t offset = kHeaderSize; offset + width <= length_of(list); offset += width) {
    const std::uint64_t address = extended ? read<std::uint64_t>(list + offset) : read<std::uint32_t>(list + offset);
    if (address) visit(at(address));
  }
}

void read_processors(const std::byte* madt, AcpiFacts& facts) {
  enum Type : std::uint8_t { LocalApic = 0, LocalX2Apic = 9 };
  for (std::size_t offset = 44; offset + 2 <= length_of(madt);) {
    const std::byte* entry = madt + offset;
    const auto size = read<std::uint8_t>(entry + 1);
    if (size < 2) break;
    const auto type = read<std::uint8_t>(entry);
    std::uint32_t id = 0;
    bool enabled = false;
    if (type == Type::LocalApic) {
      id = read<std::uint8_t>(entry + 3);
      enabled = read<std::uint32_t>(entry + 4) & 1;
    } else if (type == Type::LocalX2Apic) {
      id = read<std::uint32_t>(entry + 4);
      enabled = read<std::uint32_t>(entry + 8) & 1;
    }
    if (enabled && facts.processor_count == processors::kMaximum) facts.too_many_processors = true;
    if (enabled && facts.processor_count < processors::kMaximum) facts.apic_ids[facts.processor_count++] = id;
    offset += size;
  }
}

std::uint64_t dsdt_of(const std::byte* fadt) {
  const std::uint64_t extended = length_of(fadt) >= 148 ? read<std::uint64_t>(fadt + 140) : 0;
  return extended ? extended : read<std::uint32_t>(fadt + 40);
}

/// AML: NameOp "_S3_" PackageOp length count element element ..., each element a byte constant, Zero or One.
void hide_sleep3_in(std::byte* table, AcpiFacts& facts) {
  const std::size_t size = length_of(table);
  for (std::size_t offset = kHeaderSize; offset + 12 <= size; ++offset) {
    std::byte* name = table + offset;
    if (std::memcmp(name, "\x08_S3_\x12", 6) != 0) continue;
    std::size_t element = offset + 8;
    for (std::uint8_t& type : facts.sleep.sleep3_type) {
      if (element + 1 >= size) break;
      const auto code = read<std::uint8_t>(table + element++);
      type = code == 0x0a ? read<std::uint8_t>(table + element++) : code;
    }
    facts.sleep.has_sleep3 = true;
    name[1] = std::byte{'X'};
    table[9] = std::byte(static_cast<std::uint8_t>(static_cast<std::uint8_t>(table[9]) - sum(table, size)));
  }
}

}  // namespace

AcpiFacts read_acpi(std::uint64_t rsdp) {
  AcpiFacts facts;
  facts.rsdp = rsdp;
  if (facts.rsdp == 0) {
    const std::uint64_t ebda = std::uint64_t{read<std::uint16_t>(at(0x40e))} << 4;
    if (ebda >= 0x400 && ebda < 0xa0000) facts.rsdp = find_rsdp(ebda, ebda + 1024);
  }
  if (facts.rsdp == 0) facts.rsdp = find_rsdp(0xe0000, 0x100000);
  if (facts.rsdp == 0) return facts;
  for_each_table(facts.rsdp, [&](const std::byte* table) {
    if (is(table, "APIC")) read_processors(table, facts);
    if (is(table, "FACP")) {
      facts.sleep.port[0] = static_cast<std::uint16_t>(read<std::uint32_t>(table + 64));
      facts.sleep.port[1] = static_cast<std::uint16_t>(read<std::uint32_t>(table + 68));
      facts.pm_timer_port = static_cast<std::uint16_t>(read<std::uint32_t>(table + 76));
    }
  });
  return facts;
}

void hide_sleep3(AcpiFacts& facts) {
  if (facts.rsdp == 0) return;
  for_each_table(facts.rsdp, [&](std::byte* table) {
    if (is(table, "SSDT")) hide_sleep3_in(table, facts);
    if (is(table, "FACP") && dsdt_of(table) != 0) hide_sleep3_in(at(dsdt_of(table)), facts);
  });
}

}  // namespace bulkhead::hypervisor::boot
