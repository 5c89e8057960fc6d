// SPDX-License-Identifier: Apache-2.0
//
// wake-processors: interrupts every processor ten times a second, for ever.
//
// A diagnosis, not a remedy: under load a processor was once seen without its timer for 50 s. QEMU's do_vmexit changes the
// pending interrupts without a lock, so one could go unnoticed until the next comes. That this was the cause is not shown;
// it could be ours. If stalls go away with this program (lab.wake=yes), a lost interrupt is what they were.
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

namespace {

/// On processor `own`: has the kernel send an interrupt to `other`, where it reads an MSR.
void wake(unsigned own, unsigned other) {
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(own, &here);
  ::sched_setaffinity(0, sizeof(here), &here);
  const int msrs = ::open(("/dev/cpu/" + std::to_string(other) + "/msr").c_str(), O_RDONLY | O_CLOEXEC);
  constexpr off_t kApicBase = 0x1b;
  for (;; ::usleep(100000)) {
    std::uint64_t value = 0;
    // A processor that is offline gives an error, and needs no waking.
    [[maybe_unused]] const ssize_t length = ::pread(msrs, &value, sizeof(value), kApicBase);
  }
}

}  // namespace

int main() {
  const unsigned count = std::thread::hardware_concurrency();
  if (count < 2) return 0;
  std::vector<std::jthread> threads;
  threads.reserve(count);
  for (unsigned own = 0; own < count; ++own) threads.emplace_back(wake, own, (own + 1) % count);
}
