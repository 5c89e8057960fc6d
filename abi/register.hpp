// SPDX-License-Identifier: Apache-2.0
//
// Names and values of a virtual processor's registers: TLFS, "HV_REGISTER_NAME" and "Virtual Processor Register
// Formats". A value is 16 bytes; a register of fewer uses the low ones. Unknown names stay representable.
#pragma once

#include <cstdint>

#include "abi/hypercall.h"

namespace bulkhead::abi {

enum class RegisterName : std::uint32_t {
  ExplicitSuspend = 0x0,
  InterceptSuspend = 0x1,
  InternalActivityState = 0x4,  // bit 0: waiting for SIPI, 1: halted, 2: idle (by the GUEST_IDLE register)

  CrashP0 = 0x210,  // what a guest leaves when it crashes
  CrashP4 = 0x214,

  PendingInterruption = 0x10002,
  InterruptState = 0x10003,
  DeliverabilityNotifications = 0x10006,

  Rax = 0x20000,
  Rcx,
  Rdx,
  Rbx,
  Rsp,
  Rbp,
  Rsi,
  Rdi,
  R8,
  R9,
  R10,
  R11,
  R12,
  R13,
  R14,
  R15,
  Rip,
  Rflags,

  Xmm0 = 0x30000,
  Xmm1,
  Xmm2,
  Xmm3,
  Xmm4,
  Xmm5,
  Xmm6,
  Xmm7,
  Xmm8,
  Xmm9,
  Xmm10,
  Xmm11,
  Xmm12,
  Xmm13,
  Xmm14,
  Xmm15,
  FpMmx0,
  FpMmx1,
  FpMmx2,
  FpMmx3,
  FpMmx4,
  FpMmx5,
  FpMmx6,
  FpMmx7,
  FpControlStatus,
  XmmControlStatus,

  Cr0 = 0x40000,
  Cr2,
  Cr3,
  Cr4,
  Cr8,
  Xfem,
  Dr0 = 0x50000,
  Dr1,
  Dr2,
  Dr3,
  Dr6,
  Dr7,
  Es = 0x60000,
  Cs,
  Ss,
  Ds,
  Fs,
  Gs,
  Ldtr,
  Tr,
  Idtr = 0x70000,
  Gdtr,

  Tsc = 0x80000,
  Efer,
  KernelGsBase,
  ApicBase,
  Pat,
  SysenterCs,
  SysenterEip,
  SysenterEsp,
  Star,
  Lstar,
  Cstar,
  Sfmask,
  InitialApicId,
  TscAux = 0x8007b,
  SpecCtrl = 0x80084,
  TscDeadline = 0x80095,
  TscAdjust = 0x80096,
  ApicTaskPriority = 0x84808,

  GuestOsId = 0x90002,
  VpIndex = 0x90003,
  HypercallPage = 0x90001,
  TimeReferenceCount = 0x90004,
  VpAssistPage = 0x90013,
  ReferenceTsc = 0x90017,

  Sint0 = 0xa0000,
  Sint15 = 0xa000f,
  Scontrol,
  Sversion,
  Siefp,
  Simp,
  Eom,

  Stimer0Config = 0xb0000,  // and count, of each of the four
  Stimer3Count = 0xb0007,
};

/// Attributes of a segment register, TLFS "HV_X64_SEGMENT_REGISTER": type 0-3, S 4, DPL 5-6, present 7, reserved 8-11,
/// available 12, long 13, default 14, granularity 15.
struct SegmentRegister {
  std::uint64_t base;
  std::uint32_t limit;
  std::uint16_t selector;
  std::uint16_t attributes;

  bool operator==(const SegmentRegister&) const = default;
};
static_assert(sizeof(SegmentRegister) == 16);

/// GDTR and IDTR, TLFS "HV_X64_TABLE_REGISTER".
struct TableRegister {
  std::uint16_t padding[3];
  std::uint16_t limit;
  std::uint64_t base;

  bool operator==(const TableRegister&) const = default;
};
static_assert(sizeof(TableRegister) == 16);

/// PendingInterruption: pending 0, type 1-3, deliver error code 4, instruction length 5-8, vector 16-31, error 32-63.
enum class InterruptionType : std::uint8_t {
  External = 0,
  Nmi = 2,
  Exception = 3,
  SoftwareInterrupt = 4,
  PrivilegedSoftwareException = 5,
  SoftwareException = 6
};

/// InterruptState: bit 0 interrupt shadow, bit 1 NMI masked.
inline constexpr std::uint64_t kInterruptShadow = 1;
inline constexpr std::uint64_t kNmiMasked = 2;

/// DeliverabilityNotifications: bit 0 NMI, bit 1 interrupt, bits 48-63 SINTs: a message is sent as soon as one could be delivered.
inline constexpr std::uint64_t kNotifyNmiDeliverable = 1;
inline constexpr std::uint64_t kNotifyInterruptDeliverable = 2;
inline constexpr unsigned kNotifySintsShift = 48;

/// The value of a register that is read or written.
union RegisterValue {
  hv_register_value raw;
  std::uint64_t number;
  SegmentRegister segment;
  TableRegister table;
};
static_assert(sizeof(RegisterValue) == 16);

}  // namespace bulkhead::abi
