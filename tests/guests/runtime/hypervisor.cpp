// SPDX-License-Identifier: Apache-2.0
#include "hypervisor.hpp"

#include "instructions.hpp"

namespace bulkhead::guest::hypervisor {
namespace {

alignas(4096) std::uint8_t page[4096];

}  // namespace

bool is_there() {
  constexpr std::uint32_t kHv1 = 0x31237648;
  return (cpuid(1).ecx >> 31) != 0 && cpuid(0x40000000).eax >= 0x40000004 && cpuid(0x40000001).eax == kHv1;
}

std::uint32_t privileges() { return is_there() ? cpuid(0x40000003).eax : 0; }
std::uint32_t features() { return is_there() ? cpuid(0x40000003).edx : 0; }
std::uint32_t hints() { return is_there() ? cpuid(0x40000004).eax : 0; }

void enable_calls() {
  write_msr(kGuestOsId, 0x8100000000000001);
  write_msr(kHypercall, reinterpret_cast<std::uint64_t>(page) | 1);
}

std::uint64_t call(std::uint64_t control, std::uint64_t first, std::uint64_t second) {
  register std::uint64_t r8 asm("r8") = second;
  std::uint64_t result;
  asm volatile("call *%[page]"
               : "=a"(result), "+c"(control), "+d"(first), "+r"(r8)
               : [page] "r"(page)
               : "memory", "cc", "r9", "r10", "r11");
  return result;
}

}  // namespace bulkhead::guest::hypervisor
