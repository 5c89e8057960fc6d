// SPDX-License-Identifier: Apache-2.0
//
// exit-cost native|kvm|bare-kvm: what it costs a guest to do things that the hypervisor, or a program above it, does for it.
// In TSC ticks, from one guest instruction to the next; where the TSC counts instructions (lab/run --count), in
// instructions. One "name ticks" a line. native and kvm are our engines, bare-kvm is a program that uses KVM and does
// nothing else.
#include <x86intrin.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "bench/exit_cost/engine_host.hpp"
#include "bench/exit_cost/kvm_host.hpp"

namespace bulkhead::bench {
namespace {

struct Measurement {
  const char* name;
  Operation operation;
  std::uint32_t count;
  double exits_each;
};

constexpr std::array kMeasurements = {
    Measurement{"cpuid", Operation::Identify, 10000, 1},       Measurement{"hypercall", Operation::Hypercall, 10000, 1},
    Measurement{"rdmsr", Operation::ReadMsr, 10000, 1},        Measurement{"ipi", Operation::Interrupt, 2000, 2},
    Measurement{"port-write", Operation::PortWrite, 10000, 1}, Measurement{"mmio-read", Operation::MmioRead, 10000, 1},
};

/// Ticks for each of `count` repetitions.
double measure(Host& host, Operation operation, std::uint32_t count) {
  write_mailbox(host.memory(), operation, count);
  const auto start = __rdtsc();
  if (!host.run_to_end()) std::exit(1);
  return static_cast<double>(__rdtsc() - start) / count;
}

int run(std::string_view name) {
  const auto host = name == "bare-kvm" ? create_kvm_host() : create_engine_host(name);
  if (!host || !host->run_to_end()) return 1;  // to the guest's first question
  for (const Measurement& measurement : kMeasurements) {
    measure(*host, measurement.operation, measurement.count / 10);  // warm
    const double empty = measure(*host, Operation::Empty, measurement.count);
    const double full = measure(*host, measurement.operation, measurement.count);
    std::printf("%s %.0f\n", measurement.name, (full - empty) / measurement.exits_each);
  }
  std::fflush(stdout);
  // Processor 1 is never done: end without taking it down.
  std::_Exit(0);
}

}  // namespace
}  // namespace bulkhead::bench

int main(int count, char** arguments) {
  const std::string_view name = count == 2 ? arguments[1] : "";
  if (name != "native" && name != "kvm" && name != "bare-kvm") {
    std::fputs("usage: exit-cost native|kvm|bare-kvm\n", stderr);
    return 2;
  }
  return bulkhead::bench::run(name);
}
