// SPDX-License-Identifier: Apache-2.0
#include "engine/fake/fake_engine.hpp"

#include <fmt/format.h>

#include <chrono>
#include <utility>

namespace bulkhead::engine {

void FakeProcessor::exit(Exit next) {
  const std::lock_guard lock(mutex_);
  exits_.emplace_back(std::move(next));
  changed_.notify_all();
}

void FakeProcessor::fail(std::string why) {
  const std::lock_guard lock(mutex_);
  exits_.emplace_back(bulkhead::fail(std::move(why)));
  changed_.notify_all();
}

std::vector<std::uint64_t> FakeProcessor::completed_reads() const {
  const std::lock_guard lock(mutex_);
  return completed_reads_;
}

std::vector<std::uint8_t> FakeProcessor::external_interrupts() const {
  const std::lock_guard lock(mutex_);
  return external_interrupts_;
}

std::optional<abi::RegisterValue> FakeProcessor::get(abi::RegisterName name) const {
  const std::lock_guard lock(mutex_);
  const auto found = registers_.find(name);
  if (found == registers_.end()) return std::nullopt;
  return found->second;
}

void FakeProcessor::set(abi::RegisterName name, abi::RegisterValue value) {
  const std::lock_guard lock(mutex_);
  registers_[name] = value;
}

bool FakeProcessor::window_wanted() const {
  const std::lock_guard lock(mutex_);
  return window_wanted_;
}

void FakeProcessor::open_interrupt_window(bool open) {
  const std::lock_guard lock(mutex_);
  window_open_ = open;
  changed_.notify_all();
}

bool FakeProcessor::wait_until_halted() const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(10), [this] { return halted_; });
}

/// The engine's side of a FakeProcessor.
class FakeVirtualProcessor final : public VirtualProcessor {
 public:
  FakeVirtualProcessor(std::shared_ptr<FakeGuest> guest, std::uint32_t index)
      : guest_(std::move(guest)), processor_(guest_->vp(index)), index_(index) {}

  std::uint32_t index() const override { return index_; }

  Result<Exit> run() override {
    std::unique_lock lock(processor_.mutex_);
    const auto window = [this] { return processor_.window_wanted_ && processor_.window_open_; };
    while (!processor_.cancelled_ && !window() && processor_.exits_.empty()) {
      processor_.halted_ = true;
      processor_.changed_.notify_all();
      processor_.changed_.wait(lock);
    }
    processor_.halted_ = false;
    if (std::exchange(processor_.cancelled_, false)) return CancelledExit{};
    if (window()) {
      processor_.window_wanted_ = false;
      return InterruptWindowExit{};
    }
    Result<Exit> next = std::move(processor_.exits_.front());
    processor_.exits_.pop_front();
    return next;
  }

  void complete_read(std::uint64_t value) override {
    const std::lock_guard lock(processor_.mutex_);
    processor_.completed_reads_.push_back(value);
  }

  void cancel() override {
    const std::lock_guard lock(processor_.mutex_);
    processor_.cancelled_ = true;
    processor_.changed_.notify_all();
  }

  void request_interrupt_window(bool wanted) override {
    const std::lock_guard lock(processor_.mutex_);
    processor_.window_wanted_ = wanted;
    processor_.changed_.notify_all();
  }

  Result<> inject_external_interrupt(std::uint8_t vector) override {
    const std::lock_guard lock(processor_.mutex_);
    processor_.external_interrupts_.push_back(vector);
    return {};
  }

  Result<> set_registers(std::span<const RegisterAssignment> assignments) override {
    for (const auto& assignment : assignments) processor_.set(assignment.name, assignment.value);
    return {};
  }

  Result<> get_registers(std::span<RegisterAssignment> assignments) override {
    for (auto& assignment : assignments)
      assignment.value = processor_.get(assignment.name).value_or(abi::RegisterValue{});
    return {};
  }

 private:
  std::shared_ptr<FakeGuest> guest_;
  FakeProcessor& processor_;
  std::uint32_t index_;
};

class FakePartition final : public Partition {
 public:
  explicit FakePartition(std::shared_ptr<FakeGuest> guest) : guest_(std::move(guest)) {}

  Result<> map_memory(GuestMemory& memory) override {
    const std::lock_guard lock(guest_->mutex_);
    guest_->memory_ = &memory;
    return {};
  }

  Result<std::unique_ptr<VirtualProcessor>> create_vp(std::uint32_t index) override {
    if (index >= guest_->settings().vp_count)
      return fail(fmt::format("the partition has no virtual processor {}", index));
    return std::make_unique<FakeVirtualProcessor>(guest_, index);
  }

  void send_interrupt(abi::InterruptMessage message) override {
    const std::lock_guard lock(guest_->mutex_);
    guest_->interrupts_.push_back(message);
  }

  void set_level_messages(std::span<const abi::InterruptMessage> messages) override {
    const std::lock_guard lock(guest_->mutex_);
    guest_->level_messages_.assign(messages.begin(), messages.end());
  }

 private:
  std::shared_ptr<FakeGuest> guest_;
};

FakeProcessor& FakeGuest::vp(std::uint32_t index) {
  const std::lock_guard lock(mutex_);
  return processors_[index];
}

std::vector<abi::InterruptMessage> FakeGuest::interrupts() const {
  const std::lock_guard lock(mutex_);
  return interrupts_;
}

std::vector<abi::InterruptMessage> FakeGuest::level_messages() const {
  const std::lock_guard lock(mutex_);
  return level_messages_;
}

GuestMemory* FakeGuest::memory() const {
  const std::lock_guard lock(mutex_);
  return memory_;
}

PartitionSettings FakeGuest::settings() const {
  const std::lock_guard lock(mutex_);
  return settings_;
}

FakeEngine::FakeEngine(std::shared_ptr<FakeGuest> guest, Capabilities capabilities)
    : guest_(std::move(guest)), capabilities_(std::move(capabilities)) {}

Result<std::unique_ptr<Partition>> FakeEngine::create_partition(const PartitionSettings& settings) {
  if (settings.vp_count == 0 || settings.vp_count > capabilities_.maximum_vps) {
    return fail(fmt::format("a partition has 1 to {} virtual processors, not {}", capabilities_.maximum_vps,
                            settings.vp_count));
  }
  const std::lock_guard lock(guest_->mutex_);
  guest_->settings_ = settings;
  return std::make_unique<FakePartition>(guest_);
}

}  // namespace bulkhead::engine
