// SPDX-License-Identifier: Apache-2.0
//
// disk-reads DEVICE: what reads of a disk cost, in ticks of the time stamp counter, which counts instructions of the whole
// machine where bench/storage runs this. Past the guest's page cache (O_DIRECT), at queue depths 1 and 32. One line each:
//
//   disk-reads random-4k-1 12345 2000    the ticks for each, and how many there were
//
// and "disk-reads begins" before the first. After each line it waits, so that somebody else can count what happened meanwhile.
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr unsigned kDeepest = 32;
constexpr std::size_t kLargest = 128 * 1024;

struct Reads {
  const char* name;
  std::size_t length;
  unsigned count;
  bool random;
};
constexpr std::array<Reads, 2> kReads = {{{"random-4k", 4096, 2000, true}, {"sequential-128k", kLargest, 2000, false}}};

class Reader {
 public:
  Reader(int file, std::uint64_t size) : file_(file), size_(size) {
    if (syscall(SYS_io_setup, kDeepest, &context_) != 0) std::abort();
    for (auto& buffer : buffers_) {
      if (posix_memalign(&buffer, 4096, kLargest) != 0) std::abort();
    }
  }

  /// Ticks for each of `count` reads of `length` bytes, `depth` of them under way at a time.
  std::uint64_t measure(std::size_t length, unsigned depth, unsigned count, bool random) {
    next_ = 0;
    const std::uint64_t begin = __rdtsc();
    unsigned started = 0, ended = 0;
    for (; started < depth; ++started) start(started, length, random);
    std::array<io_event, kDeepest> events{};
    while (ended < count) {
      const long got = syscall(SYS_io_getevents, context_, 1L, static_cast<long>(depth), events.data(), nullptr);
      if (got <= 0) std::abort();
      for (long index = 0; index < got; ++index) {
        const auto& event = events[static_cast<std::size_t>(index)];
        if (event.res != static_cast<std::int64_t>(length)) std::abort();
        ++ended;
        if (started < count) {
          start(static_cast<unsigned>(event.data), length, random);
          ++started;
        }
      }
    }
    return (__rdtsc() - begin) / count;
  }

 private:
  void start(unsigned slot, std::size_t length, bool random) {
    const std::uint64_t places = size_ / length;
    const std::uint64_t place = random ? (next_++ * 7919) % places : next_++ % places;
    iocb& operation = operations_[slot];
    operation = {};
    operation.aio_data = slot;
    operation.aio_lio_opcode = IOCB_CMD_PREAD;
    operation.aio_fildes = static_cast<std::uint32_t>(file_);
    operation.aio_buf = reinterpret_cast<std::uint64_t>(buffers_[slot]);
    operation.aio_nbytes = length;
    operation.aio_offset = static_cast<std::int64_t>(place * length);
    iocb* list = &operation;
    if (syscall(SYS_io_submit, context_, 1L, &list) != 1) std::abort();
  }

  int file_;
  std::uint64_t size_;
  std::uint64_t next_ = 0;
  aio_context_t context_ = 0;
  std::array<iocb, kDeepest> operations_{};
  std::array<void*, kDeepest> buffers_{};
};

void tell(const char* line) {
  std::puts(line);
  std::fflush(stdout);
  usleep(100'000);
}

}  // namespace

int main(int argument_count, char** values) {
  if (argument_count != 2) return 2;
  const int file = open(values[1], O_RDONLY | O_DIRECT);
  std::uint64_t size = 0;
  if (file < 0 || ioctl(file, BLKGETSIZE64, &size) != 0) {
    std::perror(values[1]);
    return 1;
  }
  Reader reader(file, size);
  // Once without counting: the host reads the file into its page cache.
  reader.measure(kLargest, 1, static_cast<unsigned>(size / kLargest), false);
  tell("disk-reads begins");
  for (const unsigned depth : {1u, kDeepest}) {
    for (const auto& [name, length, count, random] : kReads) {
      char line[80];
      std::snprintf(line, sizeof line, "disk-reads %s-%u %lu %u", name, depth,
                    reader.measure(length, depth, count, random), count);
      tell(line);
    }
  }
  return 0;
}
