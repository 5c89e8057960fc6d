// SPDX-License-Identifier: Apache-2.0
//
// disk-bench IMAGE read|write [--size BYTES] [--stride BYTES] [--depth N] [--count N] [--flush-every N]
// disk-bench IMAGE convert --target IMAGE
//
// COUNT requests of SIZE bytes, each STRIDE after the one before and around the end of the disk, DEPTH of them in
// flight, or a conversion, through the disk library; prints the seconds that it took. bench/disks runs it beside qemu-img bench, whose
// options mean the same.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

#include "disk/buffers.hpp"
#include "disk/chain/chain.hpp"
#include "disk/operation/convert.hpp"
#include "disk/synchronization.hpp"

namespace bulkhead::disk {
namespace {

struct Work {
  std::string path;
  std::string kind;
  std::string target;
  std::uint64_t size = 4096;
  unsigned depth = 64;
  std::uint64_t count = 75000;
  std::uint64_t flush_every = 0;
  std::uint64_t stride = 0;  // from one request to the next; 0: the size
};

/// What the workers of one run share.
struct Run {
  Disk& disk;
  const Work& work;
  std::span<std::byte> buffer;
  std::uint64_t next = 0;
  std::uint64_t end = 0;

  /// All requests; before a flush those that are under way end, and after it the next begin.
  Task<Result<>> all() {
    Result<> done;
    while (done && next < work.count) {
      end = work.flush_every != 0 ? std::min(work.count, next + work.flush_every) : work.count;
      TaskGroup workers;
      for (unsigned i = 0; i < work.depth; ++i) {
        workers.add(worker());
      }
      done = co_await workers.wait();
      if (done && work.flush_every != 0) {
        done = co_await disk.flush();
      }
    }
    co_return done;
  }

  Task<Result<>> worker() {
    const bool writes = work.kind == "write";
    const auto places = disk.properties().size / work.size * work.size;
    const auto stride = work.stride != 0 ? work.stride : work.size;
    while (next < end) {
      const auto number = next++;
      const auto offset = number * stride % places;
      auto done = writes ? co_await write_bytes(disk, offset, buffer) : co_await read_bytes(disk, offset, buffer);
      if (!done) {
        co_return done;
      }
    }
    co_return Result<>();
  }
};

void print_time(std::chrono::steady_clock::time_point start) {
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  fmt::print("{:.6f}\n", time.count());
}

Task<Result<>> convert_image(HostStore& store, const Work& work) {
  Conversion conversion;
  conversion.source = work.path;
  conversion.target.path = work.target;
  const auto start = std::chrono::steady_clock::now();
  auto done = co_await convert(store, std::move(conversion));
  if (done) {
    print_time(start);
  }
  co_return done;
}

Task<Result<>> perform(Ring& ring, const Work& work) {
  HostStore store(ring);
  if (work.kind == "convert") {
    co_return co_await convert_image(store, work);
  }
  OpenOptions options;
  options.access = work.kind == "write" ? ImageStore::Access::write : ImageStore::Access::read;
  auto disk = co_await open_disk(store, work.path, options);
  if (!disk) {
    co_return std::unexpected(disk.error());
  }
  // Of all requests, as those of qemu-img bench have it: in memory before the clock starts.
  PageBuffer buffer(work.size, std::byte{0x61});
  const auto start = std::chrono::steady_clock::now();
  Run running{**disk, work, buffer};
  auto done = co_await running.all();
  if (done) {
    print_time(start);
    done = co_await (*disk)->close();
  }
  co_return done;
}

}  // namespace
}  // namespace bulkhead::disk

int main(int count, char** values) {
  using namespace bulkhead::disk;
  CLI::App app("Times one kind of work on an image; prints seconds");
  Work work;
  app.add_option("path", work.path)->required();
  app.add_option("kind", work.kind)->required()->check(CLI::IsMember({"read", "write", "convert"}));
  app.add_option("--target", work.target);
  app.add_option("--size", work.size);
  app.add_option("--depth", work.depth);
  app.add_option("--count", work.count);
  app.add_option("--flush-every", work.flush_every);
  app.add_option("--stride", work.stride);
  CLI11_PARSE(app, count, values);
  auto ring = Ring::create();
  const auto done = ring ? run(perform(**ring, work), [&ring] { (*ring)->wait(); })
                         : bulkhead::Result<>(std::unexpected(ring.error()));
  if (!done) {
    fmt::print(stderr, "disk-bench: {}\n", done.error().message());
    return 1;
  }
  return 0;
}
