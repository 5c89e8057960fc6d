// SPDX-License-Identifier: Apache-2.0
//
// What lab/run loads into QEMU (LD_PRELOAD), to mend three faults while it runs. QEMU 7.2 and 10 have them.
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
//
// An interrupt of the machine's gets lost. VMRUN with V_IRQ notes that in the word of the processor's pending interrupts, without the lock
// under which other threads note theirs there. What one of them has noted at the same moment is gone: a processor's timer, say, which fires
// once and is set again by its handler, so that this processor has no clock from then on. With V_IRQ noted, QEMU's loop asks next
// whether there is an interrupt to take; then the local APIC looks again.
//
//   VMRUN ─▶ helper_vmrun ─▶ loop ─▶ table of operations ─▶ x86_cpu_exec_interrupt
//                                    ▲ leads to look_again, and from there to the same
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace {

using Deliver = void (*)(void* cpu, int vector, int is_int, int error_code, std::uint64_t next_eip, int is_hw);
using IsLocked = bool (*)();
using BackToLoop = void (*)(void* cpu);
using TakeInterrupt = bool (*)(void* cpu, int pending);
using CurrentApic = void* (*)();
using PollApic = void (*)(void* apic);

Deliver deliver;
IsLocked devices_are_locked;
BackToLoop back_to_loop;
TakeInterrupt take_interrupt;
CurrentApic current_apic;
PollApic poll_apic;

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

/// Puts the bytes where nothing may be written, and makes that so again with `protection`; false if that is not possible.
template <std::size_t kSize>
bool overwrite(void* place, const std::array<std::uint8_t, kSize>& bytes, int protection) {
  const auto in_page = reinterpret_cast<std::uintptr_t>(place) % static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  char* const page = static_cast<char*>(place) - in_page;
  if (mprotect(page, in_page + kSize, PROT_READ | PROT_WRITE) != 0) return false;
  std::memcpy(place, bytes.data(), kSize);
  return mprotect(page, in_page + kSize, protection) == 0;
}

/// With the lock of the devices held. What the poll finds is taken in the loop's next round, if not in this one.
bool look_again(void* cpu, int pending) {
  constexpr int kInterrupt = 0x002, kVirtualInterrupt = 0x100;  // CPU_INTERRUPT_HARD, CPU_INTERRUPT_VIRQ
  if ((pending & (kInterrupt | kVirtualInterrupt)) == kVirtualInterrupt) {
    if (void* apic = current_apic()) poll_apic(apic);
  }
  return take_interrupt(cpu, pending);
}

/// In the data of the program itself that never changes after the start: where the pointer is, or null if it is not there exactly once.
void** find_pointer(void* pointer) {
  struct Search {
    void* pointer;
    void** found;
    unsigned count;
  } search = {pointer, nullptr, 0};
  dl_iterate_phdr(
      [](dl_phdr_info* object, std::size_t, void* data) {
        auto& wanted = *static_cast<Search*>(data);
        for (unsigned number = 0; number < object->dlpi_phnum; ++number) {
          const auto& segment = object->dlpi_phdr[number];
          if (segment.p_type != PT_GNU_RELRO) continue;
          auto** const words = std::bit_cast<void**>(object->dlpi_addr + segment.p_vaddr);
          for (std::size_t index = 0; index < segment.p_memsz / sizeof(void*); ++index) {
            if (words[index] != wanted.pointer) continue;
            wanted.found = &words[index];
            ++wanted.count;
          }
        }
        return 1;  // the first object is the program
      },
      &search);
  return search.count == 1 ? search.found : nullptr;
}

/// Makes the table of operations lead to look_again; false if that is not possible.
bool poll_before_taking() {
  if (!find(take_interrupt, "x86_cpu_exec_interrupt") || !find(current_apic, "cpu_get_current_apic") ||
      !find(poll_apic, "apic_poll_irq")) {
    return false;
  }
  void** const entry = find_pointer(reinterpret_cast<void*>(take_interrupt));
  const auto address = std::bit_cast<std::array<std::uint8_t, sizeof(void*)>>(&look_again);
  return entry != nullptr && overwrite(static_cast<void*>(entry), address, PROT_READ);
}

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
  return overwrite(function, jump, PROT_READ | PROT_EXEC);
}

[[gnu::constructor]] void mend() {
  if (!find(deliver, "do_interrupt_all")) return;  // not QEMU: a script on the way to it
  const bool mended =
      find(back_to_loop, "cpu_loop_exit_noexc") && dlsym(RTLD_DEFAULT, "current_cpu") != nullptr &&
      (find(devices_are_locked, "qemu_mutex_iothread_locked") || find(devices_are_locked, "bql_locked")) &&
      replace("do_interrupt_x86_hardirq", inject_once) && replace("cpu_clear_ignne", keep_ignne) &&
      poll_before_taking();
  if (!mended) {
    std::fputs("lab/run: this QEMU is not one that lab/emulator knows: guests may fail at random\n", stderr);
  }
}

}  // namespace
