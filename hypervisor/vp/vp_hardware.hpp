// SPDX-License-Identifier: Apache-2.0
//
// What the processor's virtualization extension does for one virtual processor: hold the registers that software
// does not see otherwise, enter the guest, and say why it came back. svm/ implements it; so will vmx/.
//
//   dispatch:  load ──▶ { enter ──▶ Exit } ... ──▶ unload
//
// One logical processor at a time uses such an object. The registers that are used most are plain data in it; enter()
// takes them from there and puts them back.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "abi/hypercall.h"
#include "abi/register.hpp"
#include "abi/register_page.hpp"
#include "hypervisor/decode/instruction.hpp"
#include "hypervisor/memory/frame.hpp"

namespace bulkhead::hypervisor {

enum class ExitReason : std::uint8_t {
  PhysicalInterrupt,  // the root has to run: an interrupt (not acknowledged), an NMI for the root
  Kick,               // somebody called machine::kick
  Cpuid,
  ReadMsr,
  WriteMsr,
  Port,       // Exit::port
  Hypercall,  // VMMCALL or VMCALL
  Halt,
  NestedPageFault,       // Exit::memory
  Shutdown,              // triple fault
  InterruptWindow,       // asked for by request_interrupt_window
  NmiWindow,             // asked for by request_nmi_window
  Exception,             // Exit::exception: an intercepted one; it was not delivered
  SetXcr,                // XSETBV
  Invalidate,            // INVD or WBINVD
  MonitorWait,           // MONITOR or MWAIT
  Pause,                 // a loop of PAUSE
  UndefinedInstruction,  // VMRUN, SKINIT and other instructions that a child does not have
  InvalidState,          // the processor refuses the guest's registers
};

struct PortAccess {
  std::uint16_t port;
  std::uint8_t size;  // 1, 2 or 4
  bool write;
  bool string;
  bool rep;
};

struct MemoryAccess {
  std::uint64_t gpa;
  bool write;
  bool fetch;
  bool during_walk;                     // the guest's page-table walk did it, not the access itself
  std::uint8_t instruction_byte_count;  // 0: the processor does not tell
  std::array<std::uint8_t, 15> instruction_bytes;
};

struct ExceptionInformation {
  std::uint8_t vector;
  bool has_error_code;
  std::uint32_t error_code;
  std::uint64_t parameter;  // page fault: the address
};

struct Exit {
  ExitReason reason;
  /// Of the instruction that exited. 0: the processor does not tell; find it from the instruction's bytes.
  std::uint64_t next_rip;
  union {
    PortAccess port;
    MemoryAccess memory;
    ExceptionInformation exception;
  };
};

/// An event that the next enter() delivers before the guest's next instruction. `type` None: there is none.
struct Event {
  enum class Type : std::uint8_t { None, ExternalInterrupt, Nmi, Exception, SoftwareInterrupt };
  Type type = Type::None;
  std::uint8_t vector = 0;
  bool has_error_code = false;
  std::uint32_t error_code = 0;

  explicit operator bool() const { return type != Type::None; }
};

/// What a register holds that is one number.
constexpr abi::RegisterValue numeric(std::uint64_t number) { return {.raw = {number, 0}}; }

/// What decides how the guest's addresses are translated and its instructions decoded.
struct ExecutionMode {
  std::uint64_t cr0, cr3, cr4, efer;
  abi::SegmentRegister cs;
  std::uint8_t cpl;

  bool is_64_bit() const { return (efer & (1u << 10)) && (cs.attributes & (1u << 13)); }
  CodeSize code_size() const {
    if (is_64_bit()) return CodeSize::k64Bit;
    return cs.attributes & (1u << 14) ? CodeSize::k32Bit : CodeSize::k16Bit;
  }
  /// Linear address of an offset into the code segment.
  std::uint64_t linear(std::uint64_t offset) const {
    return is_64_bit() ? offset : static_cast<std::uint32_t>(cs.base + offset);
  }
};

struct VpHardwareSettings {
  Frame second_level_table;  // the partition's; 4 levels, the extension's own format
  std::int64_t tsc_offset;   // the guest reads the root's counter plus this
};

/// The frames that a VP's VpHardware lies in, to be given back to the pool with it.
class HardwareFrames {
 public:
  static constexpr std::size_t kMaximum = 8;

  void add(Frame frame) { frames_[count_++] = frame; }
  std::span<const Frame> all() const { return std::span(frames_).first(count_); }

 private:
  std::array<Frame, kMaximum> frames_{};
  std::size_t count_ = 0;
};

class VpHardware {
 public:
  /// RAX RCX RDX RBX RSP RBP RSI RDI R8 .. R15, by instruction encoding (and TLFS order).
  std::uint64_t general[16] = {};
  std::uint64_t rip = 0;
  std::uint64_t rflags = 2;
  /// Task priority 0..15, which the guest may change without an exit.
  std::uint8_t cr8 = 0;
  /// The next instruction boundary does not take interrupts (after STI or MOV SS). enter() reads and writes it.
  bool interrupt_shadow = false;
  /// An NMI was delivered and its handler has not executed IRET yet.
  bool nmi_masked = false;
  /// What the next enter() delivers. After an exit it holds the event whose delivery the exit interrupted, so that it is
  /// delivered again without anybody's doing; None after an undisturbed delivery. A software interrupt is executed
  /// again by the guest instead.
  Event event;

  /// Puts the state that is shared with the root but not switched at every entry (FPU, XCR0, debug registers, system
  /// call MSRs) on this logical processor; unload takes it off and gives the root its own back.
  virtual void load() = 0;
  virtual void unload() = 0;

  /// One world switch. Only between load and unload. Translations that another VP, or this one on an earlier stay,
  /// left on this logical processor are not used.
  virtual const Exit& enter() = 0;

  /// Before the next enter, forget all translations of this VP: the second-level table or the guest's paging mode changed.
  virtual void flush_tlb() = 0;

  /// Exit with InterruptWindow as soon as the guest can take an interrupt: RFLAGS.IF set, no shadow, and CR8 less than `priority`
  /// (16: whatever CR8 is). 0 takes the request back.
  virtual void request_interrupt_window(unsigned priority) = 0;
  /// Exit with NmiWindow once NMIs are not masked any more.
  virtual void request_nmi_window() = 0;

  virtual ExecutionMode mode() const = 0;
  /// Which code RIP is in, in one number: another if CR3, the code segment's base or its attributes are. Quicker than mode().
  virtual std::uint64_t code_space() const = 0;

  /// Architectural state after power-up, or after INIT (which keeps FPU, MSRs and time stamp counter). All of this
  /// class's data included.
  virtual void reset(bool init) = 0;

  virtual void set_tsc_offset(std::int64_t offset) = 0;

  /// Exceptions (bit n: vector n) that exit instead of being delivered, beside those the extension needs for itself.
  virtual void set_exception_intercepts(std::uint32_t vectors) = 0;

  /// What a startup interrupt does after a reset: execution goes on at vector * 4096.
  void start_up(std::uint8_t vector) {
    // The reset state is real mode, so this segment is always accepted.
    const auto selector = static_cast<std::uint16_t>(vector << 8);
    (void)set_register(abi::RegisterName::Cs, {.segment = {std::uint64_t{vector} << 12, 0xffff, selector, 0x9b}});
    rip = 0;
  }

  /// By TLFS name: CR0 CR2 CR3 CR4 XFEM, DR0-7, segments, IDTR GDTR, EFER, KERNEL_GS_BASE, PAT, SYSENTER_*, STAR, LSTAR, CSTAR,
  /// SFMASK, TSC_AUX, SPEC_CTRL, XMM0-15, FP registers, FP and XMM control. Loaded or not.
  /// UNKNOWN_REGISTER_NAME for others and for what the processor does not have; set: INVALID_REGISTER_VALUE for a value
  /// with which the processor would not enter the guest (reserved bits, addresses that are not canonical, CR0 with PG but not PE, and the like).
  virtual std::expected<abi::RegisterValue, hv_status> get_register(abi::RegisterName name) const = 0;
  virtual hv_status set_register(abi::RegisterName name, const abi::RegisterValue& value) = 0;

  /// An NMI's handler runs, or does not. Unlike writing nmi_masked, it sees to it that its end is noticed.
  virtual void mask_nmi(bool masked) = 0;

  /// The XSAVE area, in the standard form. Not between load and unload.
  virtual std::span<std::byte, kPageSize> extended_state() = 0;

  /// Fills in segments, CR0, CR3, CR4, EFER, DR7 and XFEM of a register page, all at once because it happens often.
  virtual void publish(abi::RegisterPage& page) const = 0;

  /// Prints the last exit in the processor's own terms: before a panic.
  virtual void log_exit() const {}

 protected:
  ~VpHardware() = default;  // lives in frames of its partition's pool: machine::destroy_vp_hardware
};

}  // namespace bulkhead::hypervisor
