// SPDX-License-Identifier: Apache-2.0
#include "worker/host_memory.hpp"

#include <fmt/format.h>

#include <fstream>
#include <optional>
#include <string>

namespace bulkhead::worker {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

}  // namespace

Result<HostMemory> read_host_memory() {
  std::ifstream file("/proc/meminfo");
  std::optional<std::uint64_t> total;
  std::optional<std::uint64_t> available;
  std::string name;
  std::uint64_t kibibytes = 0;
  std::string rest;
  while (file >> name >> kibibytes && std::getline(file, rest)) {
    if (name == "MemTotal:") total = kibibytes * 1024;
    if (name == "MemAvailable:") available = kibibytes * 1024;
  }
  if (!total || !available) return fail("cannot read the host's memory size from /proc/meminfo");
  return HostMemory{*total, *available};
}

Result<> check_memory_is_available(std::uint64_t size) {
  auto memory = read_host_memory();
  if (!memory) return std::unexpected(memory.error());
  if (size > memory->available) {
    return fail(fmt::format("{} MiB of memory were asked for; this host has {} MiB, of which {} MiB are available",
                            size / kMiB, memory->total / kMiB, memory->available / kMiB));
  }
  return {};
}

}  // namespace bulkhead::worker
