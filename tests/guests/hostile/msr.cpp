// SPDX-License-Identifier: Apache-2.0
//
// Every MSR in the ranges where processors and hypervisors have some: read, then written with its own value, with 0, with ones and with
// a strange one. The guest gets its #GP or goes on.
#include "guest.hpp"
#include "hypervisor.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"

using namespace bulkhead::guest;

namespace {

struct Range {
  std::uint32_t first, last;
  const char* name;
};
constexpr Range kRanges[] = {
    {0, 0x1fff, "architectural"},       {0x40000000, 0x40002000, "hypervisor"}, {0x4b564d00, 0x4b564dff, "KVM"},
    {0x7fffff00, 0x800000ff, "middle"}, {0xc0000000, 0xc0001fff, "AMD"},        {0xc0010000, 0xc0011fff, "AMD K8"},
    {0xffffff00, 0xffffffff, "last"},
};

std::uint64_t value_read;
std::uint64_t reads, read_faults, writes, write_faults;

bool read(std::uint32_t msr) {
  if (msr == hypervisor::kGuestIdle) return false;  // it would wait for an interrupt, of which there are none
  ++reads;
  if (attempt([=] { value_read = read_msr(msr); }).vector == kNoException) return true;
  ++read_faults;
  return false;
}

void write(std::uint32_t msr, std::uint64_t value) {
  ++writes;
  if (attempt([=] { write_msr(msr, value); }).vector != kNoException) ++write_faults;
}

/// What a guest may do to itself by writing, and should not here: then it could not go on telling.
bool would_end_us(std::uint32_t msr) {
  constexpr std::uint32_t kEfer = 0xc0000080;  // without LME nothing runs; it has its own test below
  constexpr std::uint32_t kHypervisorReset = 0x40000003, kHypervisorCrash = 0x40000105;
  return msr == kEfer || msr == kHypervisorReset || msr == kHypervisorCrash;
}

void sweep(const Range& range) {
  reads = read_faults = writes = write_faults = 0;
  for (std::uint32_t msr = range.first;; ++msr) {
    const bool readable = read(msr);
    const std::uint64_t old = value_read;
    if (!would_end_us(msr)) {
      if (readable) write(msr, old);
      write(msr, 0);
      write(msr, ~0ull);
      write(msr, 0x0123456789abcdef);
      if (readable) write(msr, old);
    }
    if (msr == range.last) break;
  }
  print(range.name);
  print(": ");
  print_number(reads);
  print(" reads, ");
  print_number(read_faults);
  print(" faults; ");
  print_number(writes);
  print(" writes, ");
  print_number(write_faults);
  print(" faults\n");
}

void test_efer() {
  constexpr std::uint32_t kEfer = 0xc0000080;
  constexpr std::uint64_t kLongModeEnable = 1u << 8, kSvmEnable = 1u << 12;
  const std::uint64_t old = read_msr(kEfer);
  check_equal(attempt([=] { write_msr(kEfer, old & ~kLongModeEnable); }).vector, kGeneralProtection,
              "leaving long mode by EFER with paging on faults");
  check_equal(attempt([] { write_msr(kEfer, ~0ull); }).vector, kGeneralProtection, "reserved bits of EFER fault");
  if (!(cpuid(0x80000001).ecx & 4))
    check_equal(attempt([=] { write_msr(kEfer, old | kSvmEnable); }).vector, kGeneralProtection,
                "SVM cannot be enabled where CPUID does not show it");
  check_equal(read_msr(kEfer), old, "EFER is as it was");
}

}  // namespace

void bulkhead::guest::run() {
  for (const Range& range : kRanges) sweep(range);
  pass("every MSR was read and written");
  test_efer();
  const Fault fault = attempt([] { asm volatile("ud2"); });
  check_equal(fault.vector, kInvalidOpcode, "exceptions work as before");
}
