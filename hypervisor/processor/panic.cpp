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

void print_guest(const LogicalProcessor& processor) {
  const VpHardware* guest = processor.running;
  if (!guest) return;
  const auto& g = guest->general;
  console::line(guest == processor.root ? "guest: the root" : "guest: a child", Field{"rip", guest->rip},
                Field{"rflags", guest->rflags}, Field{"rax", g[0]}, Field{"rcx", g[1]}, Field{"rdx", g[2]},
                Field{"rbx", g[3]}, Field{"rsp", g[4]}, Field{"rbp", g[5]}, Field{"rsi", g[6]}, Field{"rdi", g[7]});
  const ExecutionMode mode = guest->mode();
  console::line("guest", Field{"r8", g[8]}, Field{"r9", g[9]}, Field{"r10", g[10]}, Field{"r11", g[11]},
                Field{"r12", g[12]}, Field{"r13", g[13]}, Field{"r14", g[14]}, Field{"r15", g[15]},
                Field{"cs", mode.cs.selector}, Field{"cr0", mode.cr0}, Field{"cr3", mode.cr3}, Field{"cr4", mode.cr4},
                Field{"efer", mode.efer});
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
