// SPDX-License-Identifier: Apache-2.0
//
// hidden-memory START END: reads physical memory [START, END) through /dev/mem, writes one word to each page of it, and
// reads it again. Prints what came of it:
//
//   nonzero bytes N, pages written W, writes refused R, nonzero bytes afterwards N
#include <fcntl.h>
#include <sys/mman.h>

#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

constexpr std::size_t kPageSize = 4096;
sigjmp_buf refused;

void on_fault(int) { siglongjmp(refused, 1); }

std::size_t nonzero(const volatile std::uint8_t* bytes, std::size_t size) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < size; ++i) count += bytes[i] != 0;
  return count;
}

bool write_page(volatile std::uint64_t* word) {
  if (sigsetjmp(refused, 1) != 0) return false;
  *word = 0x6272656163680000;
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const std::uint64_t start = std::strtoull(arguments[1], nullptr, 0);
  const std::size_t size = std::strtoull(arguments[2], nullptr, 0) - start;
  const int memory = ::open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
  void* mapping = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, static_cast<off_t>(start));
  if (memory < 0 || mapping == MAP_FAILED) {
    std::perror("/dev/mem");
    return 1;
  }
  std::signal(SIGSEGV, on_fault);
  std::signal(SIGBUS, on_fault);
  auto* bytes = static_cast<volatile std::uint8_t*>(mapping);
  const std::size_t before = nonzero(bytes, size);
  std::size_t written = 0;
  std::size_t refusals = 0;
  for (std::size_t offset = 0; offset < size; offset += kPageSize) {
    ++(write_page(reinterpret_cast<volatile std::uint64_t*>(bytes + offset)) ? written : refusals);
  }
  std::printf("nonzero bytes %zu, pages written %zu, writes refused %zu, nonzero bytes afterwards %zu\n", before,
              written, refusals, nonzero(bytes, size));
}
