// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/root/root_partition.hpp"

#include <algorithm>

#include "hypervisor/decode/guest_walk.hpp"
#include "hypervisor/hypercall/root_hypercall.hpp"
#include "hypervisor/memory/page_table.hpp"
#include "hypervisor/processor/console.hpp"
#include "hypervisor/processor/local_apic.hpp"
#include "hypervisor/processor/privileged.hpp"
#include "hypervisor/processor/start.hpp"
#include "hypervisor/root/cpuid_policy.hpp"

namespace bulkhead::hypervisor::root {

Machine root_machine;

namespace {

constexpr std::uint8_t kUndefinedVector = 6;
constexpr std::uint8_t kGeneralProtectionVector = 13;
constexpr std::uint8_t kNmiVector = 2;

/// INIT and startup. False: this processor has nothing to run yet.
bool may_run(LogicalProcessor& processor, VpHardware& root) {
  std::uint8_t vector = 0;
  switch (processor.startup.phase()) {
    case StartupState::Phase::Running: return true;
    case StartupState::Phase::InitPending:
      local_apic::reset();
      root.reset(true);
      processor.logical_destination = 0;
      processor.destination_format = 0xffffffff;
      processor.root_nmi = false;
      processor.startup.take_init();
      return false;
    case StartupState::Phase::WaitForSipi: processors::wait(processor); return false;
    case StartupState::Phase::SipiPending: break;
  }
  if (!processor.startup.take_sipi(vector)) return false;
  processor.root_nmi = false;
  root.reset(true);
  root.start_up(vector);
  return true;
}

void deliver_nmi(LogicalProcessor& processor, VpHardware& root) {
  if (root.event) return;  // goes first; the NMI at the next exit, which the window brings about
  if (root.nmi_masked) {
    root.request_nmi_window();
    return;
  }
  root.event = {Event::Type::Nmi, kNmiVector, false, 0};
  processor.root_nmi = false;
}

void handle_cpuid(VpHardware& root, const Exit& exit) {
  const auto leaf = static_cast<std::uint32_t>(root.general[0]);
  const auto subleaf = static_cast<std::uint32_t>(root.general[1]);
  const machine::CpuidResult result = filter_cpuid(leaf, subleaf, machine::host_cpuid(leaf, subleaf), root.mode().cr4);
  root.general[0] = result.eax;
  root.general[3] = result.ebx;
  root.general[1] = result.ecx;
  root.general[2] = result.edx;
  advance(root, exit);
}

void handle_hypercall(VpHardware& root, const Exit& exit) {
  const ExecutionMode mode = root.mode();
  if (mode.cpl != 0 || !mode.is_64_bit()) {
    inject(root, kUndefinedVector);
    return;
  }
  HypercallRegisters registers{root.general[0], root.general[1], root.general[2], root.general[8], false};
  const std::uint64_t next_rip = exit.next_rip;
  hypercall(registers);
  root.general[0] = registers.rax;
  root.general[1] = registers.rcx;
  if (registers.again) return;
  root.rip = next_rip ? next_rip : root.rip + 3;
}

void handle_port(VpHardware& root, const Exit& exit) {
  const PortAccess& access = exit.port;
  const SleepControl& sleep = root_machine.sleep;
  const int index = sleep.register_of(access.port);
  if (access.string || index < 0) {
    inject_general_protection(root);
    return;
  }
  if (access.write) {
    const auto value = static_cast<std::uint32_t>(root.general[0]);
    if (sleep.starts_sleep3(access.port, value, access.size, privileged::in16(sleep.port[index]))) {
      machine::log("suspend to RAM refused: the root would wake without its hypervisor", access.port);
    } else if (access.size == 1) {
      privileged::out8(access.port, static_cast<std::uint8_t>(value));
    } else if (access.size == 2) {
      privileged::out16(access.port, static_cast<std::uint16_t>(value));
    } else {
      privileged::out32(access.port, value);
    }
  } else if (access.size == 1) {
    root.general[0] = (root.general[0] & ~std::uint64_t{0xff}) | privileged::in8(access.port);
  } else if (access.size == 2) {
    root.general[0] = (root.general[0] & ~std::uint64_t{0xffff}) | privileged::in16(access.port);
  } else {
    root.general[0] = privileged::in32(access.port);
  }
  advance(root, exit);
}

void handle_memory(LogicalProcessor& processor, VpHardware& root, const Exit& exit) {
  const MemoryAccess access = exit.memory;
  if (access.write && !access.during_walk && access.gpa / kPageSize == kApicBaseAddress / kPageSize) {
    handle_apic_write(processor, root, access.gpa);
    return;
  }
  machine::log("the root wrote to memory that is the hypervisor's or deposited", access.gpa);
  machine::log(access.during_walk ? "by a walk of its page tables, at" : "at", root.rip);
  inject_general_protection(root);
}

[[noreturn]] void reset_machine() {
  constexpr std::uint16_t kResetControl = 0xcf9, kKeyboardController = 0x64;
  privileged::out8(kResetControl, 0x02);
  privileged::out8(kResetControl, 0x06);
  privileged::out8(kKeyboardController, 0xfe);
  for (;;) privileged::halt();
}

void handle(LogicalProcessor& processor, VpHardware& root, const Exit& exit) {
  switch (exit.reason) {
    case ExitReason::Kick:
    case ExitReason::PhysicalInterrupt:
    case ExitReason::NmiWindow: return;
    case ExitReason::Cpuid: handle_cpuid(root, exit); return;
    case ExitReason::ReadMsr: handle_msr(processor, root, false); return;
    case ExitReason::WriteMsr: handle_msr(processor, root, true); return;
    case ExitReason::Hypercall: handle_hypercall(root, exit); return;
    case ExitReason::Port: handle_port(root, exit); return;
    case ExitReason::NestedPageFault: handle_memory(processor, root, exit); return;
    case ExitReason::UndefinedInstruction: inject(root, kUndefinedVector); return;
    case ExitReason::Shutdown:
      console::line("triple fault of the root: the machine is reset", console::Field{"processor", processor.index},
                    console::Field{"rip", root.rip});
      reset_machine();
    default: machine::panic("an exit of the root that it should not have");
  }
}

}  // namespace

void run(LogicalProcessor& processor) {
  VpHardware& root = *processor.root;
  processor.running = &root;
  for (;;) {
    if (processor.signals.any()) [[unlikely]]
      processors::take_signals(processor);
    if (!may_run(processor, root)) continue;
    if (processor.root_nmi) deliver_nmi(processor, root);
    // in_root before root_flush: whoever takes rights away sets root_flush before it reads in_root, so one of us sees the other.
    processor.in_root.store(true);
    if (processor.root_flush.exchange(false)) root.flush_tlb();
    const Exit& exit = root.enter();
    processor.in_root.store(false);
    handle(processor, root, exit);
  }
}

void inject(VpHardware& root, std::uint8_t vector) { root.event = {Event::Type::Exception, vector, false, 0}; }
void inject_general_protection(VpHardware& root) {
  root.event = {Event::Type::Exception, kGeneralProtectionVector, true, 0};
}

std::optional<Instruction> fetch(const VpHardware& root) {
  const PageTable<NestedFormat> table(processors::common.root_table);
  const auto page_at = [&](GuestPage page) -> const std::byte* {
    const auto is_ram = [&](const FrameRange& range) { return page.number - range.first.number < range.count; };
    if (!std::ranges::any_of(root_machine.ram, is_ram)) return nullptr;
    const std::optional<Frame> frame = table.translate(page.number);
    return frame ? machine::frame_pointer(*frame) : nullptr;
  };
  const ExecutionMode mode = root.mode();
  const std::byte* first_page = nullptr;
  return fetch_guest_instruction(mode, mode.linear(root.rip), page_at, first_page);
}

void advance(VpHardware& root, const Exit& exit) {
  root.interrupt_shadow = false;
  if (exit.next_rip) {
    root.rip = exit.next_rip;
    return;
  }
  const std::optional<Instruction> decoded = fetch(root);
  // CPUID, RDMSR and WRMSR without a prefix. Their bytes were there a moment ago, when the processor executed them.
  root.rip += decoded ? decoded->length : 2;
}

}  // namespace bulkhead::hypervisor::root
