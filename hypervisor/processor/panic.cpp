// SPDX-License-Identifier: Apache-2.0
//
// The end: what is known about this processor and its guest, and then nothing runs any more.
#include "hypervisor/machine.hpp"
#include "hypervisor/processor/console.hpp"
#include "hypervisor/processor/logical_processor.hpp"
#include "hypervisor/processor/privileged.hpp"
#include "hypervisor/vp/vp_hardware.hpp"

namespace bulkhead::hypervisor {
namespace {

using console::Field;

constexpr unsigned kRegisters = 16;
constexpr char kRegisterNames[kRegisters][4] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                                "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

void print_guest(const LogicalProcessor& processor) {
  const VpHardware* guest = processor.running;
  if (!guest) return;
  // By a loop: a list of all of them is much code.
  Field fields[kRegisters];
  for (unsigned index = 0; index < kRegisters; ++index) fields[index] = {kRegisterNames[index], guest->general[index]};
  console::write_line(guest == processor.root ? "guest: the root" : "guest: a child", fields, kRegisters);
  const ExecutionMode mode = guest->mode();
  console::line("guest", Field{"rip", guest->rip}, Field{"rflags", guest->rflags}, Field{"cs", mode.cs.selector},
                Field{"cr0", mode.cr0}, Field{"cr3", mode.cr3}, Field{"cr4", mode.cr4}, Field{"efer", mode.efer});
  guest->log_exit();
}

}  // namespace

void machine::panic(std::string_view why) {
  static std::atomic<bool> begun;
  console::panic_mode();
  const LogicalProcessor& self = LogicalProcessor::current();
  console::line("panic", Field{"processor", self.index});
  console::line(why);
  if (!begun.exchange(true)) {
    print_guest(self);
    for (std::uint32_t index = 0; index < processors::count; ++index) {
      if (processors::all[index] != &self) processors::signal(*processors::all[index], kSignalStop);
    }
  }
  for (;;) privileged::halt();
}

}  // namespace bulkhead::hypervisor
