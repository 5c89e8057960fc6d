// SPDX-License-Identifier: Apache-2.0
#include "bench/exit_cost/engine_host.hpp"

#include <cstdio>
#include <thread>

#include "engine/select.hpp"

namespace bulkhead::bench {
namespace {

class EngineHost final : public Host {
 public:
  Result<> start(std::string_view name) {
    auto engine = engine::select_engine(name);
    if (!engine) return std::unexpected(engine.error());
    engine_ = std::move(*engine);
    const std::array<engine::GuestMemory::Range, 2> ranges = {{{0, kMemorySize}, {kResetPage, 4096}}};
    auto memory = engine::GuestMemory::allocate(ranges);
    if (!memory) return std::unexpected(memory.error());
    memory_ = std::move(*memory);
    load_guest(this->memory(), *memory_->at(kResetPage, 4096));

    auto partition = engine_->create_partition({.vp_count = kProcessors});
    if (!partition) return std::unexpected(partition.error());
    partition_ = std::move(*partition);
    if (auto mapped = partition_->map_memory(*memory_); !mapped) return mapped;
    for (std::uint32_t i = 0; i < kProcessors; ++i) {
      auto processor = partition_->create_vp(i);
      if (!processor) return std::unexpected(processor.error());
      processors_[i] = std::move(*processor);
    }
    // Ends with the process: nothing in the guest's processor 1 comes to user mode.
    std::thread([this] { static_cast<void>(processors_[1]->run()); }).detach();
    return {};
  }

  std::span<std::uint8_t> memory() override { return *memory_->at(0, kMemorySize); }

  bool run_to_end() override {
    engine::VirtualProcessor& processor = *processors_[0];
    for (;;) {
      const auto exit = processor.run();
      if (!exit) {
        std::fprintf(stderr, "%s\n", exit.error().message().c_str());
        return false;
      }
      if (const auto* port = std::get_if<engine::PortExit>(&*exit)) {
        if (port->port == kEndPort) return true;
      } else if (std::holds_alternative<engine::MmioExit>(*exit)) {
        processor.complete_read(0);
      } else {
        const auto* failure = std::get_if<engine::FailureExit>(&*exit);
        std::fprintf(stderr, "exit %zu: %s\n", exit->index(), failure != nullptr ? failure->why.c_str() : "unexpected");
        return false;
      }
    }
  }

 private:
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<engine::GuestMemory> memory_;
  std::unique_ptr<engine::Partition> partition_;
  std::array<std::unique_ptr<engine::VirtualProcessor>, kProcessors> processors_;
};

}  // namespace

std::unique_ptr<Host> create_engine_host(std::string_view engine) {
  auto host = std::make_unique<EngineHost>();
  if (const auto started = host->start(engine); !started) {
    std::fprintf(stderr, "%s\n", started.error().message().c_str());
    return nullptr;
  }
  return host;
}

}  // namespace bulkhead::bench
