// SPDX-License-Identifier: Apache-2.0
#include "firmware/acpi.hpp"

#include "firmware/memory_layout.hpp"
#include "vdev/power_management.hpp"
#include "vdev/reset_control.hpp"
#include "vdev/rtc.hpp"

namespace bulkhead::firmware {
namespace {

using vdev::PowerManagement;

constexpr std::size_t kHeaderSize = 36;
constexpr std::size_t kChecksumOffset = 9;
constexpr std::size_t kRsdpSize = 36;
constexpr std::size_t kFacsSize = 64;
constexpr std::size_t kFadtSize = 276;
constexpr std::string_view kOemId = "BULKHD";
constexpr std::string_view kOemTableId = "BULKHEAD";

// FADT, "Fixed ACPI Description Table Fixed Feature Flags".
constexpr std::uint32_t kWbinvd = 1u << 0;
constexpr std::uint32_t kProcessorC1 = 1u << 2;
constexpr std::uint32_t kNoFixedSleepButton = 1u << 5;
constexpr std::uint32_t kNoFixedRtc = 1u << 6;
constexpr std::uint32_t kTimer32Bit = 1u << 8;
constexpr std::uint32_t kResetRegister = 1u << 10;
constexpr std::uint32_t kHeadless = 1u << 12;
// FADT, "IA-PC Boot Architecture Flags".
constexpr std::uint16_t kLegacyDevices = 1u << 0;
constexpr std::uint16_t kKeyboardController = 1u << 1;
constexpr std::uint16_t kNoVga = 1u << 2;
// MADT.
constexpr std::uint32_t kDualPic = 1u << 0;
constexpr std::uint32_t kEnabled = 1u << 0;
constexpr std::uint16_t kActiveHighLevel = 0x000d;
constexpr std::uint32_t kFirstX2ApicOnlyId = 255;

// A generic address in I/O space; `access` is 1 for bytes, 2 for words, 3 for double words. A block of 0 bytes is none.
void io_address(ByteWriter& writer, std::uint16_t port, std::uint8_t bytes, std::uint8_t access) {
  if (bytes == 0) {
    writer.zeros(12);
  } else {
    writer.u8(1).u8(std::uint64_t{bytes} * 8).u8(0).u8(access).u64(port);
  }
}

Bytes build_fadt(const MachineDescription& machine, std::uint64_t facs, std::uint64_t dsdt) {
  ByteWriter body;
  body.u32(facs).u32(dsdt).u8(0);
  body.u8(4);                                                 // enterprise server
  body.u16(PowerManagement::kSystemControlInterrupt).u32(0);  // no SMI command port: always in ACPI mode
  body.zeros(4);                                              // and no values for it
  body.u32(PowerManagement::kEventBlock).u32(0).u32(PowerManagement::kControlBlock).u32(0).u32(0);
  body.u32(PowerManagement::kTimerBlock).u32(PowerManagement::kGeneralEventBlock).u32(0);
  body.u8(4).u8(2).u8(0).u8(4).u8(4).u8(0).u8(0);  // the blocks' lengths
  body.u8(0).u16(0xffff).u16(0xffff);              // no C2 and C3
  body.u16(0).u16(0).u8(0).u8(0).u8(0).u8(0).u8(vdev::Rtc::kCenturyIndex);
  body.u16(kLegacyDevices | kNoVga | (machine.keyboard_controller ? kKeyboardController : 0)).u8(0);
  body.u32(kWbinvd | kProcessorC1 | kNoFixedSleepButton | kNoFixedRtc | kTimer32Bit | kResetRegister | kHeadless);
  io_address(body, vdev::ResetControl::kPort, 1, 1);
  body.u8(vdev::ResetControl::kFullReset).u16(0).u8(5);  // FADT minor version: 6.5
  body.u64(0).u64(dsdt);                                 // the FACS is named by its 32-bit field
  io_address(body, PowerManagement::kEventBlock, 4, 2);
  io_address(body, 0, 0, 0);
  io_address(body, PowerManagement::kControlBlock, 2, 2);
  io_address(body, 0, 0, 0);
  io_address(body, 0, 0, 0);
  io_address(body, PowerManagement::kTimerBlock, 4, 3);
  io_address(body, PowerManagement::kGeneralEventBlock, 4, 1);
  io_address(body, 0, 0, 0);
  body.zeros(24);         // sleep control and status: hardware-reduced machines only
  body.text("Bulkhead");  // hypervisor vendor identity
  return system_description_table("FACP", 6, body.content());
}

void local_apic(ByteWriter& body, std::uint32_t vp) {
  if (vp < kFirstX2ApicOnlyId) {
    body.u8(0).u8(8).u8(vp).u8(vp).u32(kEnabled);
  } else {
    body.u8(9).u8(16).u16(0).u32(vp).u32(kEnabled).u32(vp);
  }
}

void source_override(ByteWriter& body, std::uint8_t irq, std::uint32_t input, std::uint16_t flags) {
  body.u8(2).u8(10).u8(0).u8(irq).u32(input).u16(flags);
}

Bytes build_madt(const MachineDescription& machine) {
  ByteWriter body;
  body.u32(kLocalApic).u32(kDualPic);
  for (std::uint32_t vp = 0; vp < machine.vp_count; ++vp) local_apic(body, vp);
  body.u8(1).u8(12).u8(0).u8(0).u32(kIoApic).u32(0);
  source_override(body, 0, 2, 0);  // the timer
  source_override(body, PowerManagement::kSystemControlInterrupt, PowerManagement::kSystemControlInterrupt,
                  kActiveHighLevel);
  body.u8(4).u8(6).u8(0xff).u16(0).u8(1);  // NMI at LINT1 of every local APIC
  if (machine.vp_count > kFirstX2ApicOnlyId) body.u8(10).u8(12).u16(0).u32(UINT32_MAX).u8(1).zeros(3);
  return system_description_table("APIC", 5, body.content());
}

Bytes build_facs() {
  ByteWriter facs;
  facs.text("FACS").u32(kFacsSize).zeros(24).u8(2);  // no waking vector, no global lock, version 2
  return facs.zeros(kFacsSize - facs.size()).content();
}

Bytes build_rsdp(std::uint64_t xsdt) {
  ByteWriter rsdp;
  rsdp.text("RSD PTR ").u8(0).text(kOemId).u8(2).u32(0);
  rsdp.u32(kRsdpSize).u64(xsdt).u8(0).zeros(3);
  Bytes bytes = rsdp.content();
  bytes[8] = checksum(std::span(bytes).first(20));  // what ACPI 1.0 knew
  bytes[32] = checksum(bytes);
  return bytes;
}

}  // namespace

Bytes system_description_table(std::string_view signature, std::uint8_t revision, std::span<const std::uint8_t> body) {
  ByteWriter table;
  table.text(signature).u32(kHeaderSize + body.size()).u8(revision).u8(0);
  table.text(kOemId).text(kOemTableId).u32(1).text("BLKH").u32(1);
  Bytes bytes = table.bytes(body).content();
  bytes[kChecksumOffset] = checksum(bytes);
  return bytes;
}

Bytes build_acpi_tables(const MachineDescription& machine, std::uint64_t base) {
  constexpr std::size_t kXsdtSize = kHeaderSize + 2 * sizeof(std::uint64_t);
  constexpr std::size_t kXsdtOffset = 64;
  constexpr std::size_t kFacsOffset = 128;
  constexpr std::size_t kFadtOffset = kFacsOffset + kFacsSize;
  constexpr std::size_t kMadtOffset = (kFadtOffset + kFadtSize + 63) & ~std::size_t{63};
  static_assert(kXsdtOffset + kXsdtSize <= kFacsOffset);
  const Bytes madt = build_madt(machine);
  const std::uint64_t dsdt_offset = (kMadtOffset + madt.size() + 63) & ~std::size_t{63};
  const Bytes xsdt =
      system_description_table("XSDT", 1, ByteWriter().u64(base + kFadtOffset).u64(base + kMadtOffset).content());

  ByteWriter tables;
  tables.bytes(build_rsdp(base + kXsdtOffset)).align(64);
  tables.bytes(xsdt).align(64);
  tables.bytes(build_facs()).bytes(build_fadt(machine, base + kFacsOffset, base + dsdt_offset)).align(64);
  tables.bytes(madt).align(64);
  tables.bytes(build_dsdt(machine));
  return tables.content();
}

}  // namespace bulkhead::firmware
