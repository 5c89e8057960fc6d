// SPDX-License-Identifier: Apache-2.0
//
// msr-sweep: reads every MSR number of the ranges that processors use, through the kernel's msr driver, on processor 0.
// A read that faults is an error to us and nothing worse. Prints how many of them could be read.
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <initializer_list>

int main() {
  const int msrs = ::open("/dev/cpu/0/msr", O_RDONLY | O_CLOEXEC);
  if (msrs < 0) {
    std::perror("/dev/cpu/0/msr");
    return 1;
  }
  unsigned readable = 0;
  for (const std::uint32_t first : {0x0u, 0x40000000u, 0xc0000000u, 0xc0010000u}) {
    for (std::uint32_t number = first; number < first + 0x2000; ++number) {
      std::uint64_t value = 0;
      if (::pread(msrs, &value, sizeof(value), number) == sizeof(value)) ++readable;
    }
  }
  std::printf("%u MSRs can be read\n", readable);
}
