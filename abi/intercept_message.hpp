// SPDX-License-Identifier: Apache-2.0
//
// What a virtual processor's intercept tells its parent: TLFS, "Intercept Messages". The hypervisor writes one message
// of at most 256 bytes into the VP's intercept message page before the dispatch ends.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi/register.hpp"

namespace bulkhead::abi {

enum class MessageType : std::uint32_t {
  None = 0,
  UnmappedGpa = 0x80000000,
  GpaIntercept = 0x80000001,            // mapped, but without the right that the access needs
  InvalidVpRegister = 0x80000020,       // the VP's registers are a state that the processor cannot enter
  UnrecoverableException = 0x80000021,  // triple fault
  HypercallIntercept = 0x80000050,
  SynicSintDeliverable = 0x80000062,
  IoPort = 0x80010000,
  Msr = 0x80010001,
  Cpuid = 0x80010002,
  Exception = 0x80010003,
  ApicEoi = 0x80010004,
  InterruptionDeliverable = 0x80010008,
};

struct MessageHeader {
  MessageType type;
  std::uint8_t payload_size;
  std::uint8_t flags;
  std::uint16_t reserved;
  std::uint64_t sender;  // partition id
};
static_assert(sizeof(MessageHeader) == 16);

enum class InterceptAccess : std::uint8_t { Read = 0, Write = 1, Execute = 2 };

/// `execution_state`: CPL 0-1, CR0.PE 2, CR0.AM 3, EFER.LMA 4, debug active 5, interruption pending 6, VTL 7-10,
/// enclave 11, interrupt shadow 12.
struct InterceptHeader {
  std::uint32_t vp_index;
  std::uint8_t instruction_length_and_cr8;  // length in the low four bits (0: unknown), CR8 in the high ones
  InterceptAccess access;
  std::uint16_t execution_state;
  SegmentRegister cs;
  std::uint64_t rip;
  std::uint64_t rflags;

  unsigned instruction_length() const { return instruction_length_and_cr8 & 0xf; }
};
static_assert(sizeof(InterceptHeader) == 0x28);

/// `access_info`: operand size 0-2 (1, 2 or 4), string instruction 3, REP prefix 4.
struct IoPortIntercept {
  InterceptHeader header;
  std::uint16_t port;
  std::uint8_t access_info;
  std::uint8_t instruction_byte_count;
  std::uint32_t reserved;
  std::uint64_t rax;
  std::uint8_t instruction_bytes[16];
  SegmentRegister ds;
  SegmentRegister es;
  std::uint64_t rcx;
  std::uint64_t rsi;
  std::uint64_t rdi;

  unsigned size() const { return access_info & 7; }
  bool is_string() const { return access_info & 8; }
  bool has_rep() const { return access_info & 16; }
};
static_assert(offsetof(IoPortIntercept, rax) == 0x30);
static_assert(offsetof(IoPortIntercept, ds) == 0x48);
static_assert(sizeof(IoPortIntercept) == 0x80);

/// UnmappedGpa and GpaIntercept. `access_info`: GVA valid 0, GVA to GPA valid 1 (the fault is of the access itself and
/// not of a page-table walk for it).
struct MemoryIntercept {
  InterceptHeader header;
  std::uint32_t cache_type;
  std::uint8_t instruction_byte_count;  // 0: fetch them through the guest's page tables
  std::uint8_t access_info;
  std::uint8_t tpr_priority;
  std::uint8_t reserved;
  std::uint64_t gva;
  std::uint64_t gpa;
  std::uint8_t instruction_bytes[16];
};
static_assert(sizeof(MemoryIntercept) == 0x50);

struct MsrIntercept {
  InterceptHeader header;
  std::uint32_t msr;
  std::uint32_t reserved;
  std::uint64_t rdx;
  std::uint64_t rax;
};
static_assert(sizeof(MsrIntercept) == 0x40);

struct CpuidIntercept {
  InterceptHeader header;
  std::uint64_t rax, rcx, rdx, rbx;
  std::uint64_t default_rax, default_rcx, default_rdx, default_rbx;
};
static_assert(sizeof(CpuidIntercept) == 0x68);

/// `info`: error code valid 0.
struct ExceptionIntercept {
  InterceptHeader header;
  std::uint16_t vector;
  std::uint8_t info;
  std::uint8_t instruction_byte_count;
  std::uint32_t error_code;
  std::uint64_t parameter;
  std::uint64_t reserved;
  std::uint8_t instruction_bytes[16];
};
static_assert(sizeof(ExceptionIntercept) == 0x50);

struct HypercallIntercept {
  InterceptHeader header;
  std::uint64_t rax, rbx, rcx, rdx, r8, rsi, rdi;
};
static_assert(sizeof(HypercallIntercept) == 0x60);

struct ApicEoiMessage {
  std::uint32_t vp_index;
  std::uint32_t vector;
};
static_assert(sizeof(ApicEoiMessage) == 8);

struct InterruptionDeliverableMessage {
  InterceptHeader header;
  std::uint32_t type;  // InterruptionType
  std::uint32_t reserved;
};
static_assert(sizeof(InterruptionDeliverableMessage) == 0x30);

/// A message was refused for these SINTs (bit n: SINT n), and could be put into their slots now.
struct SintDeliverableMessage {
  InterceptHeader header;
  std::uint16_t sints;
  std::uint16_t reserved[3];
};
static_assert(sizeof(SintDeliverableMessage) == 0x30);

/// The intercept message page: one message at its start.
struct InterceptMessage {
  MessageHeader header;
  union {
    InterceptHeader intercept;
    IoPortIntercept io_port;
    MemoryIntercept memory;
    MsrIntercept msr;
    CpuidIntercept cpuid;
    ExceptionIntercept exception;
    HypercallIntercept hypercall;
    ApicEoiMessage eoi;
    InterruptionDeliverableMessage deliverable;
    SintDeliverableMessage sints;
    std::uint8_t bytes[240];
  };
};
static_assert(sizeof(InterceptMessage) == 256);

}  // namespace bulkhead::abi
