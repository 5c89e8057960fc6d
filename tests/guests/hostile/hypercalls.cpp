// SPDX-License-Identifier: Apache-2.0
//
// Hypercalls that a child must not make, and such that are wrong in every way. Skipped where there is no such hypervisor.
#include "guest.hpp"
#include "hypervisor.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"

using namespace bulkhead::guest;

namespace {

constexpr std::uint16_t kInvalidCode = 2, kAccessDenied = 6;
alignas(4096) std::uint8_t input[8192], output[8192];

/// The result word; -1 if the call raised an exception.
std::uint64_t call(std::uint64_t control, std::uint64_t in, std::uint64_t out) {
  static std::uint64_t result;
  const Fault fault = attempt([=] { result = hypervisor::call(control, in, out); });
  return fault.vector == kNoException ? result : ~0ull;
}
std::uint64_t call(std::uint64_t control) {
  return call(control, reinterpret_cast<std::uint64_t>(input), reinterpret_cast<std::uint64_t>(output));
}

/// The calls of a parent, by which a child could make partitions, or reach other memory or processors.
void test_root_calls() {
  constexpr std::uint16_t kParentCalls[] = {0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x47, 0x48, 0x49, 0x4a, 0x4b,  0x4c,
                                            0x4d, 0x4e, 0x4f, 0x50, 0x51, 0x91, 0x94, 0xc2, 0xe1, 0xe2, 0x7f00};
  // As its own partition, as others that may be there, and as anything.
  constexpr std::uint64_t kPartitions[] = {~0ull, 0, 1, 2, 3, 0x0123456789abcdef};
  for (const std::uint16_t code : kParentCalls) {
    for (const std::uint64_t partition : kPartitions) {
      for (std::uint64_t& word : reinterpret_cast<std::uint64_t(&)[512]>(input)) word = partition;
      for (const std::uint64_t control : {code | 0ull, code | 1ull << 32, code | 1ull << 16, code | 0x1ffull << 32}) {
        const std::uint64_t result = call(control);
        if ((result & 0xffff) != kAccessDenied && (result & 0xffff) != kInvalidCode)
          return fail("root-only hypercalls are refused", "control word gives the result", control, result);
      }
    }
  }
  pass("root-only hypercalls are refused");
}

void test_malformed() {
  constexpr std::uint64_t kReserved[] = {1ull << 27, 1ull << 30, 1ull << 31, 1ull << 44,
                                         1ull << 47, 1ull << 60, 1ull << 63};
  for (const std::uint64_t bit : kReserved)
    if ((call(0x5c | bit) & 0xffff) == 0)
      return fail("reserved bits of the control word are refused", "bit taken", bit, 0);
  pass("reserved bits of the control word are refused");
  // Every code with strange counts: whatever the answer is, one must come, and it must not be success.
  unsigned successes = 0;
  for (std::uint64_t code = 0; code < 0x10000; code = code < 0x200 ? code + 1 : code * 2 - 1) {
    for (const std::uint64_t more : {0ull, 0xfffull << 32, 0xfffull << 48, 0x123456789abull << 16, 0x3ffull << 17}) {
      const std::uint64_t result = call(code | more);
      successes += (result & 0xffff) == 0 ? 1 : 0;
    }
  }
  print("calls that succeeded: ");
  print_number(successes);
  print("\n");
  pass("every code with strange counts is answered");
}

void test_addresses() {
  const auto page = reinterpret_cast<std::uint64_t>(input);
  const std::uint64_t addresses[] = {page + 1,   page + 4,   page + 4088,      page + 4095, 0xfee00000, 0xfec00000,
                                     0xd0000000, 1ull << 38, (1ull << 52) - 8, ~0ull,       ~7ull,      0,
                                     8};
  for (const std::uint64_t address : addresses) {
    for (const std::uint64_t code :
         {0x02ull, 0x03ull, 0x0bull, 0x50ull | 4ull << 32, 0x51ull | 4ull << 32, 0x5cull, 0x5dull, 0x8001ull}) {
      call(code, address, page);
      call(code, page, address);
      call(code, address, address);
    }
  }
  pass("parameters at every kind of address are answered");
}

void test_page() {
  const std::uint64_t enabled = read_msr(hypervisor::kHypercall);
  check_equal(enabled & 1, 1, "the hypercall page is enabled");
  check_equal(call(0x3fff) & 0xffff, kInvalidCode, "an unknown hypercall is told so");
  // Pages outside of memory, or on top of a device.
  for (const std::uint64_t address : {0xfee00000ull, 0xd0000000ull, 1ull << 38, ~0xfffull, (1ull << 52) - 4096}) {
    attempt([=] { write_msr(hypervisor::kHypercall, address | 1); });
  }
  write_msr(hypervisor::kHypercall, 0);
  hypervisor::enable_calls();
  check_equal(call(0x3fff) & 0xffff, kInvalidCode, "the page works again after strange places for it");
}

}  // namespace

void bulkhead::guest::run() {
  if (!hypervisor::is_there()) return skip("hypercalls", "there is no hypervisor with the interface Hv#1");
  hypervisor::enable_calls();
  test_page();
  test_root_calls();
  test_malformed();
  test_addresses();
  // The instructions themselves, not by the page.
  attempt([] { asm volatile("vmmcall" ::"a"(0), "c"(0), "d"(0) : "memory", "r8"); });
  attempt([] { asm volatile("vmcall" ::"a"(0), "c"(0), "d"(0) : "memory", "r8"); });
  pass("VMMCALL and VMCALL outside of the page end");
}
