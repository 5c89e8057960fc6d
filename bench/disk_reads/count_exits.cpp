// SPDX-License-Identifier: Apache-2.0
//
// count-exits MARK COMMAND WORD...: runs the command, and says what it says. After each line that begins with MARK follows what the
// hypervisor below this Linux, or KVM in it, has counted of all its machines since the one before:
//
//   count-exits EXITS INTERRUPTS
//
// KVM's exits are without those for ports, since the console, on which the lines come, is one. Bulkhead's are all: a line's are in them.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "abi/vid.h"
#include "bench/command/command.hpp"

namespace {

struct Counts {
  std::int64_t exits = 0, interrupts = 0;
};

std::int64_t read_kvm(const char* name) {
  std::ifstream file(std::string("/sys/kernel/debug/kvm/") + name);
  std::int64_t count = 0;
  file >> count;
  return count;
}

Counts read_counts(int hypervisor) {
  if (hypervisor < 0) return {read_kvm("exits") - read_kvm("io_exits"), read_kvm("irq_injections")};
  bulkhead_information information = {};
  if (::ioctl(hypervisor, BULKHEAD_GET_INFORMATION, &information) != 0) {
    std::perror(BULKHEAD_DEVICE);
    std::exit(1);
  }
  return {static_cast<std::int64_t>(information.hypervisor.exits),
          static_cast<std::int64_t>(information.hypervisor.interrupts)};
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::fputs("usage: count-exits MARK COMMAND WORD...\n", stderr);
    return 2;
  }
  const int hypervisor = ::open(BULKHEAD_DEVICE, O_RDWR | O_CLOEXEC);
  ::mount("debugfs", "/sys/kernel/debug", "debugfs", 0, nullptr);  // it may be there already
  using bulkhead::bench::Command;
  Command command(arguments + 2);
  Counts before;
  std::size_t told = 0;
  while (command.read() != Command::Read::End) {
    const std::string& said = command.said();
    for (std::size_t end = 0; (end = said.find('\n', told)) != std::string::npos; told = end + 1) {
      const std::string line = said.substr(told, end - told);
      std::printf("%s\n", line.c_str());
      if (!line.starts_with(arguments[1])) continue;
      const Counts now = read_counts(hypervisor);
      std::printf("count-exits %ld %ld\n", now.exits - before.exits, now.interrupts - before.interrupts);
      before = now;
    }
    std::fflush(stdout);
  }
}
