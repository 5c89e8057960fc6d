// SPDX-License-Identifier: Apache-2.0
//
// Which model-specific registers the root reaches itself. What the table does not name is native.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace bulkhead::hypervisor::root {

enum class MsrAccess : std::uint8_t {
  Native,
  Refuse,   // general protection fault
  Emulate,  // root_msr.cpp
};

struct MsrRule {
  std::uint32_t first, last;
  MsrAccess read, write;
  const char* why;
};

inline constexpr MsrRule kMsrRules[] = {
    {0x0000001b, 0x0000001b, MsrAccess::Native, MsrAccess::Emulate, "APIC_BASE: the APIC must stay where it is"},
    {0x0000003a, 0x0000003a, MsrAccess::Native, MsrAccess::Refuse, "FEATURE_CONTROL"},
    {0x00000079, 0x00000079, MsrAccess::Native, MsrAccess::Refuse, "microcode of the processor under the hypervisor"},
    {0x00000200, 0x0000020f, MsrAccess::Native, MsrAccess::Emulate, "variable MTRRs"},
    {0x00000250, 0x00000250, MsrAccess::Native, MsrAccess::Emulate, "fixed MTRRs"},
    {0x00000258, 0x00000259, MsrAccess::Native, MsrAccess::Emulate, "fixed MTRRs"},
    {0x00000268, 0x0000026f, MsrAccess::Native, MsrAccess::Emulate, "fixed MTRRs"},
    {0x000002ff, 0x000002ff, MsrAccess::Native, MsrAccess::Emulate, "MTRR default type"},
    {0x00000480, 0x00000493, MsrAccess::Refuse, MsrAccess::Refuse, "VMX capabilities"},
    {0x00000830, 0x00000830, MsrAccess::Native, MsrAccess::Emulate, "x2APIC ICR: INIT, startup and NMI"},
    {0xc0000080, 0xc0000080, MsrAccess::Emulate, MsrAccess::Emulate, "EFER: SVME is the hypervisor's"},
    {0xc0010016, 0xc001001a, MsrAccess::Native, MsrAccess::Refuse, "IORRs and TOP_MEM: where memory is"},
    {0xc001001d, 0xc001001d, MsrAccess::Native, MsrAccess::Refuse, "TOP_MEM2"},
    {0xc0010020, 0xc0010020, MsrAccess::Native, MsrAccess::Refuse, "microcode of the processor under the hypervisor"},
    {0xc0010111, 0xc0010113, MsrAccess::Native, MsrAccess::Refuse, "SMM base, address and mask"},
    {0xc0010114, 0xc0010114, MsrAccess::Emulate, MsrAccess::Refuse, "VM_CR: SVM is shown as turned off"},
    {0xc0010115, 0xc0010119, MsrAccess::Refuse, MsrAccess::Refuse, "SVM and SMM control"},
    {0xc001011e, 0xc001011e, MsrAccess::Refuse, MsrAccess::Refuse, "VM_PAGE_FLUSH"},
    {0xc0010130, 0xc0010132, MsrAccess::Refuse, MsrAccess::Refuse, "SEV"},
};

/// Those that a child reads and writes without an exit: they are exchanged between root and child.
inline constexpr std::uint32_t kChildNativeMsrs[] = {
    0x00000174, 0x00000175, 0x00000176,              // SYSENTER_CS, ESP, EIP
    0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084,  // STAR, LSTAR, CSTAR, SFMASK
    0xc0000100, 0xc0000101, 0xc0000102,              // FS, GS, KERNEL_GS base
    0xc0000103,                                      // TSC_AUX
};

constexpr MsrAccess msr_access(std::uint32_t index, bool write) {
  for (const MsrRule& rule : kMsrRules) {
    if (index >= rule.first && index <= rule.last) return write ? rule.write : rule.read;
  }
  return MsrAccess::Native;
}

/// SVM's map (APM volume 2, section 15.11): two bits for each of 3 x 8192 registers, read and write; 1 exits.
inline constexpr std::size_t kMsrMapSize = 8192;
void build_root_msr_map(std::span<std::uint8_t, kMsrMapSize> map);
void build_child_msr_map(std::span<std::uint8_t, kMsrMapSize> map);

}  // namespace bulkhead::hypervisor::root
