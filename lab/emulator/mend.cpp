// SPDX-License-Identifier: Apache-2.0
//
// What lab/run loads into QEMU (LD_PRELOAD), to mend two faults while it runs. QEMU 7.2 and 10 have them.
//
// An injected interrupt comes twice. VMRUN with an interrupt in EVENTINJ (APM volume 2, 15.20): QEMU delivers the interrupt and leaves
// its number where exceptions stand that are to be delivered. If the emulation is then asked to stop for a moment (another
// processor sends an interrupt, a timer ends) before anything else writes to that place, the guest gets the interrupt a second time,
// with interrupts disabled or not: in the first instructions of its kernel's entry, say, which it does not survive.
//
//   VMRUN ─▶ helper_vmrun ─▶ do_interrupt_x86_hardirq ─▶ do_interrupt_all
//                            ▲ replaced by inject_once: the same, then back to QEMU's loop with no exception left
//
// The first processor's state is overwritten. Whenever any processor loads its FPU's status, QEMU clears the IGNNE# signal in the
// first processor's hflags2, without a lock. If that one leaves its guest at the same moment, it may be back in its hypervisor with nested
// paging still on: its next access to memory is translated by the guest's tables, and ends with a second #VMEXIT, which stores
// the hypervisor's RIP and CR3 in the guest's VMCB, or with a triple fault of the machine. IGNNE# matters to programs of DOS alone.
//
//   FXRSTOR, FLDENV, … ─▶ cpu_set_fpus ─▶ cpu_clear_ignne
//                                         ▲ replaced by nothing
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace {

using Deliver = void (*)(void* cpu, int vector, int is_int, int error_code, std::uint64_t next_eip, int is_hw);
using IsLocked = bool (*)();
using BackToLoop = void (*)(void* cpu);

Deliver deliver;
IsLocked devices_are_locked;
BackToLoop back_to_loop;

template <typename Function>
bool find(Function& function, const char* name) {
  function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  return function != nullptr;
}

/// The loop's own deliveries come here too; they hold the lock of the devices and clear the place themselves.
void inject_once(void* /*env*/, int vector, int is_hw) {
  // QEMU's variable of each thread: the processor that the thread emulates.
  thread_local void** const current = static_cast<void**>(dlsym(RTLD_DEFAULT, "current_cpu"));
  deliver(*current, vector, 0, 0, 0, is_hw);
  if (!devices_are_locked()) back_to_loop(*current);
}

void keep_ignne() {}

/// Replaces the start of the function of that name by a jump; false if that is not possible.
template <typename Function>
bool replace(const char* name, Function* replacement) {
  char* function = nullptr;
  if (!find(function, name)) return false;
  // movabs $replacement, %rax; jmp *%rax
  std::array<std::uint8_t, 12> jump = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0};
  const auto address = reinterpret_cast<std::uintptr_t>(replacement);
  std::memcpy(&jump[2], &address, sizeof(address));
  Dl_info library = {};
  void* entry = nullptr;
  if (dladdr1(function, &library, &entry, RTLD_DL_SYMENT) == 0 || entry == nullptr ||
      static_cast<const ElfW(Sym)*>(entry)->st_size < jump.size()) {
    return false;
  }
  const auto in_page = reinterpret_cast<std::uintptr_t>(function) % static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  char* page = function - in_page;
  if (mprotect(page, in_page + jump.size(), PROT_READ | PROT_WRITE) != 0) return false;
  std::memcpy(function, jump.data(), jump.size());
  return mprotect(page, in_page + jump.size(), PROT_READ | PROT_EXEC) == 0;
}

[[gnu::constructor]] void mend() {
  if (!find(deliver, "do_interrupt_all")) return;  // not QEMU: a script on the way to it
  const bool mended =
      find(back_to_loop, "cpu_loop_exit_noexc") && dlsym(RTLD_DEFAULT, "current_cpu") != nullptr &&
      (find(devices_are_locked, "qemu_mutex_iothread_locked") || find(devices_are_locked, "bql_locked")) &&
      replace("do_interrupt_x86_hardirq", inject_once) && replace("cpu_clear_ignne", keep_ignne);
  if (!mended) {
    std::fputs("lab/run: this QEMU is not one that lab/emulator knows: guests may fail at random\n", stderr);
  }
}

}  // namespace
