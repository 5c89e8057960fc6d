// SPDX-License-Identifier: Apache-2.0
//
// The virtual machine control block: AMD64 APM volume 2, appendix B, and section 15.13 to 15.20 for the fields' meaning.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bulkhead::hypervisor::svm {

/// Offset 00Ch.
inline constexpr std::uint32_t kInterceptIntr = 1u << 0;
inline constexpr std::uint32_t kInterceptNmi = 1u << 1;
inline constexpr std::uint32_t kInterceptInit = 1u << 3;
inline constexpr std::uint32_t kInterceptVirtualInterrupt = 1u << 4;
inline constexpr std::uint32_t kInterceptRdpmc = 1u << 15;
inline constexpr std::uint32_t kInterceptCpuid = 1u << 18;
inline constexpr std::uint32_t kInterceptIret = 1u << 20;
inline constexpr std::uint32_t kInterceptInvd = 1u << 22;
inline constexpr std::uint32_t kInterceptPause = 1u << 23;
inline constexpr std::uint32_t kInterceptHalt = 1u << 24;
inline constexpr std::uint32_t kInterceptInvlpga = 1u << 26;
inline constexpr std::uint32_t kInterceptPorts = 1u << 27;
inline constexpr std::uint32_t kInterceptMsrs = 1u << 28;
inline constexpr std::uint32_t kInterceptFerrFreeze = 1u << 30;
inline constexpr std::uint32_t kInterceptShutdown = 1u << 31;

/// Offset 010h.
inline constexpr std::uint32_t kInterceptVmrun = 1u << 0;
inline constexpr std::uint32_t kInterceptVmmcall = 1u << 1;
inline constexpr std::uint32_t kInterceptVmload = 1u << 2;
inline constexpr std::uint32_t kInterceptVmsave = 1u << 3;
inline constexpr std::uint32_t kInterceptStgi = 1u << 4;
inline constexpr std::uint32_t kInterceptClgi = 1u << 5;
inline constexpr std::uint32_t kInterceptSkinit = 1u << 6;
inline constexpr std::uint32_t kInterceptWbinvd = 1u << 9;
inline constexpr std::uint32_t kInterceptMonitor = 1u << 10;
inline constexpr std::uint32_t kInterceptMwait = 1u << 11;
inline constexpr std::uint32_t kInterceptMwaitArmed = 1u << 12;
inline constexpr std::uint32_t kInterceptXsetbv = 1u << 13;
inline constexpr std::uint32_t kInterceptRdpru = 1u << 14;

/// EFER.SVME: set in every guest's EFER, and not shown to it.
inline constexpr std::uint64_t kEferSvm = 1u << 12;

/// Those of appendix C that something is made of.
enum class ExitCode : std::uint64_t {
  ReadDr0 = 0x20,
  WriteDr15 = 0x3f,
  Exception0 = 0x40,
  Exception31 = 0x5f,
  Intr = 0x60,
  Nmi = 0x61,
  Init = 0x63,
  VirtualInterrupt = 0x64,
  Cpuid = 0x72,
  Iret = 0x74,
  Invd = 0x76,
  Pause = 0x77,
  Halt = 0x78,
  Port = 0x7b,
  Msr = 0x7c,
  FerrFreeze = 0x7e,
  Shutdown = 0x7f,
  Vmmcall = 0x81,
  Wbinvd = 0x89,
  Monitor = 0x8a,
  Mwait = 0x8b,
  MwaitArmed = 0x8c,
  Xsetbv = 0x8d,
  NestedPageFault = 0x400,
  InvalidIn32Bits = 0xffffffff,  // as QEMU's emulation writes it
  Invalid = 0xffffffffffffffff,
};

/// EVENTINJ and EXITINTINFO: vector 0-7, type 8-10, error code valid 11, valid 31, error code 32-63.
inline constexpr std::uint64_t kEventValid = 1u << 31;
inline constexpr std::uint64_t kEventErrorCodeValid = 1u << 11;

/// Offset 060h: task priority 0-7, request 8, priority 16-19, ignore task priority 20, masking 24, vector 32-39.
inline constexpr std::uint64_t kVirtualInterruptRequest = 1u << 8;
inline constexpr unsigned kVirtualInterruptPriorityShift = 16;
inline constexpr std::uint64_t kVirtualInterruptIgnorePriority = 1u << 20;
inline constexpr std::uint64_t kVirtualInterruptMasking = 1u << 24;

/// Attributes: type 0-3, S 4, DPL 5-6, P 7, AVL 8, L 9, D 10, G 11.
struct VmcbSegment {
  std::uint16_t selector;
  std::uint16_t attributes;
  std::uint32_t limit;
  std::uint64_t base;
};
static_assert(sizeof(VmcbSegment) == 16);

/// The TLFS leaves a gap in the attributes where a descriptor has the limit's upper bits; the VMCB does not.
constexpr std::uint16_t to_vmcb(std::uint16_t attributes) {
  return static_cast<std::uint16_t>((attributes & 0xff) | ((attributes >> 4) & 0xf00));
}
constexpr std::uint16_t from_vmcb(std::uint16_t attributes) {
  return static_cast<std::uint16_t>((attributes & 0xff) | ((attributes & 0xf00) << 4));
}

struct Vmcb {
  std::uint16_t cr_reads, cr_writes;
  std::uint16_t dr_reads, dr_writes;
  std::uint32_t exceptions;
  std::uint32_t intercepts1;
  std::uint32_t intercepts2;
  std::uint32_t intercepts3;
  std::uint8_t reserved_018[0x03c - 0x018];
  std::uint16_t pause_threshold;
  std::uint16_t pause_count;
  std::uint64_t port_bitmap;
  std::uint64_t msr_bitmap;
  std::uint64_t tsc_offset;
  std::uint32_t asid;
  std::uint32_t tlb_control;
  union {
    std::uint64_t virtual_interrupt;
    std::uint8_t task_priority;
  };
  std::uint64_t interrupt_shadow;
  ExitCode exit_code;
  std::uint64_t exit_information1;
  std::uint64_t exit_information2;
  std::uint64_t exit_event;  // EXITINTINFO
  std::uint64_t nested_paging;
  std::uint8_t reserved_098[0x0a8 - 0x098];
  std::uint64_t event_injection;
  std::uint64_t nested_cr3;
  std::uint64_t last_branch;
  std::uint32_t clean, reserved_0c4;
  std::uint64_t next_rip;
  std::uint8_t instruction_byte_count;
  std::uint8_t instruction_bytes[15];
  std::uint8_t reserved_0e0[0x400 - 0x0e0];

  VmcbSegment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
  std::uint8_t reserved_4a0[0x4cb - 0x4a0];
  std::uint8_t cpl;
  std::uint8_t reserved_4cc[4];
  std::uint64_t efer;
  std::uint8_t reserved_4d8[0x548 - 0x4d8];
  std::uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
  std::uint8_t reserved_580[0x5d8 - 0x580];
  std::uint64_t rsp;
  std::uint8_t reserved_5e0[0x5f8 - 0x5e0];
  std::uint64_t rax;
  std::uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
  std::uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
  std::uint64_t cr2;
  std::uint8_t reserved_648[0x668 - 0x648];
  std::uint64_t pat;
  std::uint64_t debug_control;
  std::uint8_t reserved_678[0x1000 - 0x678];
};
static_assert(offsetof(Vmcb, pause_threshold) == 0x03c);
static_assert(offsetof(Vmcb, asid) == 0x058);
static_assert(offsetof(Vmcb, exit_code) == 0x070);
static_assert(offsetof(Vmcb, event_injection) == 0x0a8);
static_assert(offsetof(Vmcb, next_rip) == 0x0c8);
static_assert(offsetof(Vmcb, es) == 0x400);
static_assert(offsetof(Vmcb, cpl) == 0x4cb);
static_assert(offsetof(Vmcb, efer) == 0x4d0);
static_assert(offsetof(Vmcb, cr4) == 0x548);
static_assert(offsetof(Vmcb, rip) == 0x578);
static_assert(offsetof(Vmcb, rsp) == 0x5d8);
static_assert(offsetof(Vmcb, rax) == 0x5f8);
static_assert(offsetof(Vmcb, cr2) == 0x640);
static_assert(offsetof(Vmcb, pat) == 0x668);
static_assert(sizeof(Vmcb) == 4096);

}  // namespace bulkhead::hypervisor::svm
