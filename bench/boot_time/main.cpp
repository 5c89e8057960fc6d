// SPDX-License-Identifier: Apache-2.0
//
// boot-time                       prints the TSC: where lab/run --count makes it, the machine's time since its reset, in ns
// boot-time MARK COMMAND WORD...  runs the command until it prints MARK, and prints how many TSC ticks that took
//
// Each prints "boot-time TICKS".
#include <x86intrin.h>

#include <cstdio>

#include "bench/command/command.hpp"

int main(int count, char** arguments) {
  if (count == 1) {
    std::printf("boot-time %llu\n", __rdtsc());
    return 0;
  }
  if (count < 3) {
    std::fputs("usage: boot-time [MARK COMMAND WORD...]\n", stderr);
    return 2;
  }
  using bulkhead::bench::Command;
  const auto before = __rdtsc();
  Command command(arguments + 2);
  while (!command.has_said(arguments[1])) {
    if (command.read() == Command::Read::Something) continue;
    std::fprintf(stderr, "'%s' did not come; all that came is: %s\n", arguments[1], command.said().c_str());
    return 1;
  }
  std::printf("boot-time %llu\n", __rdtsc() - before);
}
