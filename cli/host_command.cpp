// SPDX-License-Identifier: Apache-2.0
#include "cli/host_command.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <vector>

#include "abi/vid.h"
#include "engine/file_descriptor.hpp"
#include "engine/select.hpp"
#include "worker/host_memory.hpp"

namespace bulkhead::cli {
namespace {

constexpr std::uint64_t kPageSize = 4096;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

struct Host {
  std::vector<engine::EngineAvailability> engines;
  unsigned processors;
  std::optional<worker::HostMemory> memory;
  std::optional<hv_bulkhead_information> hypervisor;  // none: this is not its root partition
};

std::optional<hv_bulkhead_information> ask_hypervisor() {
  const engine::FileDescriptor device(open(BULKHEAD_DEVICE, O_RDWR | O_CLOEXEC));
  bulkhead_information information{};
  if (!device.is_open() || ioctl(device.get(), BULKHEAD_GET_INFORMATION, &information) != 0) return std::nullopt;
  return information.hypervisor;
}

Host look_at_host() {
  auto memory = worker::read_host_memory();
  return {.engines = engine::available_engines(),
          .processors = std::thread::hardware_concurrency(),
          .memory = memory ? std::optional(*memory) : std::nullopt,
          .hypervisor = ask_hypervisor()};
}

nlohmann::ordered_json to_json(const Host& host) {
  nlohmann::ordered_json object;
  object["engines"] = nlohmann::ordered_json::array();
  for (const auto& engine : host.engines) {
    nlohmann::ordered_json entry = {{"name", engine.name}, {"works", engine.obstacle.empty()}};
    if (!engine.obstacle.empty()) entry["obstacle"] = engine.obstacle;
    object["engines"].push_back(entry);
  }
  object["processors"] = host.processors;
  if (host.memory) object["memory"] = {{"total", host.memory->total}, {"available", host.memory->available}};
  if (host.hypervisor) {
    const auto& hypervisor = *host.hypervisor;
    object["hypervisor"] = {{"logicalProcessors", hypervisor.logical_processors},
                            {"maximumVps", hypervisor.maximum_vps},
                            {"partitions", hypervisor.partitions},
                            {"imageBytes", hypervisor.image_bytes},
                            {"memoryBytes", hypervisor.memory_bytes},
                            {"rootPoolPagesAvailable", hypervisor.root_pool_pages_available},
                            {"rootPoolPagesInUse", hypervisor.root_pool_pages_in_use},
                            {"depositedPages", hypervisor.deposited_pages},
                            {"tscFrequency", hypervisor.tsc_frequency},
                            {"exits", hypervisor.exits},
                            {"interrupts", hypervisor.interrupts}};
  }
  return object;
}

void print_for_people(const Host& host) {
  for (const auto& engine : host.engines) {
    fmt::print("engine {:<8} {}\n", engine.name, engine.obstacle.empty() ? "works" : "no: " + engine.obstacle);
  }
  fmt::print("processors      {}\n", host.processors);
  if (host.memory) {
    fmt::print("memory          {} MiB, {} MiB available\n", host.memory->total / kMiB, host.memory->available / kMiB);
  }
  if (!host.hypervisor) return;
  const auto& hypervisor = *host.hypervisor;
  fmt::print("hypervisor      {} KiB of memory, of which its image {} KiB\n", hypervisor.memory_bytes / 1024,
             hypervisor.image_bytes / 1024);
  fmt::print("  processors    {} at {} MHz; up to {} in a machine\n", hypervisor.logical_processors,
             hypervisor.tsc_frequency / 1'000'000, hypervisor.maximum_vps);
  fmt::print("  partitions    {}, with {} KiB deposited for them\n", hypervisor.partitions,
             hypervisor.deposited_pages * kPageSize / 1024);
  fmt::print("  children      {} exits and {} interrupts until now\n", hypervisor.exits, hypervisor.interrupts);
  fmt::print("  root's pool   {} KiB in use, {} KiB free\n", hypervisor.root_pool_pages_in_use * kPageSize / 1024,
             hypervisor.root_pool_pages_available * kPageSize / 1024);
}

}  // namespace

int show_host(bool as_json) {
  const Host host = look_at_host();
  if (as_json) {
    fmt::print("{}\n", to_json(host).dump(2));
  } else {
    print_for_people(host);
  }
  const bool any_works = std::ranges::any_of(host.engines, [](const auto& engine) { return engine.obstacle.empty(); });
  return any_works ? 0 : 1;
}

}  // namespace bulkhead::cli
