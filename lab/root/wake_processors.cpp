// SPDX-License-Identifier: Apache-2.0
//
// wake-processors: interrupts every processor ten times a second, for ever.
//
// QEMU changes a processor's pending interrupts from two threads without a lock when its SVM leaves a guest (do_vmexit, in
// all versions up to 10.1), and once in some millions of exits an interrupt is not noticed until the next one comes. If it
// was the timer's, the processor waits for ever. Real processors lose nothing; there this would do no good and no harm.
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
  for (unsigned own = 0; own < count; ++own) threads.emplace_back(wake, own, (own + 1) % count);
}
