// SPDX-License-Identifier: Apache-2.0
//
// Instructions that only a hypervisor may use: they fault.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"

using namespace bulkhead::guest;

namespace {

bool faults(const Fault& fault) { return fault.vector == kInvalidOpcode || fault.vector == kGeneralProtection; }

}  // namespace

void bulkhead::guest::run() {
  if (cpuid(0x80000001).ecx & 4) return skip("instructions of SVM and VMX", "CPUID offers SVM");
  alignas(4096) static char page[4096];
  check(faults(attempt([] { asm volatile("vmrun" ::"a"(page) : "memory"); })), "VMRUN faults", "it does not");
  check(faults(attempt([] { asm volatile("vmload" ::"a"(page) : "memory"); })), "VMLOAD faults", "it does not");
  check(faults(attempt([] { asm volatile("vmsave" ::"a"(page) : "memory"); })), "VMSAVE faults", "it does not");
  check(faults(attempt([] { asm volatile("clgi" ::: "memory"); })), "CLGI faults", "it does not");
  check(faults(attempt([] { asm volatile("stgi" ::: "memory"); })), "STGI faults", "it does not");
  check(faults(attempt([] { asm volatile("invlpga" ::"a"(0), "c"(0) : "memory"); })), "INVLPGA faults", "it does not");
  check(faults(attempt([] { asm volatile("skinit" ::"a"(0) : "memory"); })), "SKINIT faults", "it does not");
  check(faults(attempt([] { asm volatile("vmxoff" ::: "memory", "cc"); })), "VMXOFF faults", "it does not");
  check(faults(attempt([] { asm volatile("vmptrld %0" ::"m"(page)
                                         : "memory", "cc"); })), "VMPTRLD faults",
        "it does not");
  attempt([] { asm volatile("rsm" ::: "memory"); });
  attempt([] { asm volatile("monitor" ::"a"(page), "c"(0), "d"(0)); });
  attempt([] { asm volatile("wbinvd" ::: "memory"); });
  attempt([] { asm volatile("invd" ::: "memory"); });
  attempt([] { asm volatile("xsetbv" ::"a"(~0u), "d"(~0u), "c"(0)); });
  attempt([] { asm volatile("xsetbv" ::"a"(0), "d"(0), "c"(0)); });
  attempt([] { asm volatile("rdpmc" ::"c"(~0u) : "eax", "edx"); });
  attempt([] { asm volatile("mov %0, %%cr8" ::"r"(~0ull)); });
  attempt([] { asm volatile("mov %0, %%dr7" ::"r"(1ull << 32 | 0x400)); });
  attempt([] { asm volatile("mov %0, %%dr6" ::"r"(1ull << 32)); });
  pass("privileged instructions with strange operands end");
}
