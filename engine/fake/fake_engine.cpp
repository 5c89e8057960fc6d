// SPDX-License-Identifier: Apache-2.0
#include "engine/fake/fake_engine.hpp"

#include <fmt/format.h>

#include <chrono>
#include <utility>

namespace bulkhead::engine {
namespace {

constexpr std::uint32_t kSavedVersion = 1;

}  // namespace

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

std::vector<RegisterAssignment> FakeProcessor::registers() const {
  const std::lock_guard lock(mutex_);
  std::vector<RegisterAssignment> all;
  all.reserve(registers_.size());
  for (const auto& [name, value] : registers_) all.push_back({.name = name, .value = value});
  return all;
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

  Result<state::SavedUnit> save() override {
    if (!guest_->time_is_frozen()) return bulkhead::fail("the fake partition's time is not frozen");
    state::SavedUnit saved(kSavedVersion);
    state::SavedList registers;
    for (const auto& assignment : processor_.registers()) {
      state::SavedUnit one(kSavedVersion);
      one.number("name", std::to_underlying(assignment.name))
          .number("low", assignment.value.raw.low)
          .number("high", assignment.value.raw.high);
      registers.push_back(std::move(one));
    }
    saved.number("index", index_).number("count", registers.size()).list("registers", std::move(registers));
    return saved;
  }

  Result<> restore(const state::SavedUnit& saved) override {
    if (!guest_->time_is_frozen()) return bulkhead::fail("the fake partition's time is not frozen");
    state::SavedReader reader(saved, "fake virtual processor", kSavedVersion);
    const auto index = reader.number("index");
    const auto registers = reader.list("registers", reader.number("count", 4096));
    if (auto read = reader.finish(); !read) return read;
    if (index != index_) return bulkhead::fail(fmt::format("the state is of processor {}, this is {}", index, index_));
    for (const auto& one : registers) {
      state::SavedReader entry(one, "fake register", kSavedVersion);
      const auto name = static_cast<abi::RegisterName>(entry.number("name", UINT32_MAX));
      abi::RegisterValue value = {};
      value.raw.low = entry.number("low");
      value.raw.high = entry.number("high");
      if (auto read = entry.finish(); !read) return read;
      processor_.set(name, value);
    }
    return {};
  }

 private:
  std::shared_ptr<FakeGuest> guest_;
  FakeProcessor& processor_;
  std::uint32_t index_;
};

/// The engine's side of a FakeGuest.
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

  Result<> freeze_time() override { return set_frozen(true); }
  Result<> thaw_time() override { return set_frozen(false); }

  Result<state::SavedUnit> save() override {
    if (!guest_->time_is_frozen()) return fail("the fake partition's time is not frozen");
    state::SavedUnit saved(kSavedVersion);
    saved.number("processors", guest_->settings().vp_count);
    return saved;
  }

  Result<> restore(const state::SavedUnit& saved) override {
    if (!guest_->time_is_frozen()) return fail("the fake partition's time is not frozen");
    state::SavedReader reader(saved, "fake partition", kSavedVersion);
    const auto processors = reader.number("processors");
    if (auto read = reader.finish(); !read) return read;
    if (processors == guest_->settings().vp_count) return {};
    return fail(fmt::format("the saved partition has {} processors, not {}", processors, guest_->settings().vp_count));
  }

  Result<> take_memory(GuestPhysicalAddress address, std::uint64_t size) override {
    return change(address, size, false);
  }
  Result<> give_memory(GuestPhysicalAddress address, std::uint64_t size) override {
    if (guest_->host_is_empty_) return fail("the fake host has no memory");
    return change(address, size, true);
  }

  Result<> track_dirty_pages(bool wanted) override {
    const std::lock_guard lock(guest_->mutex_);
    if (guest_->memory_ == nullptr) return fail("a partition gets its memory before its dirty pages are tracked");
    guest_->dirty_pages_.reset();
    if (wanted) guest_->dirty_pages_.emplace(guest_->memory_->regions());
    return {};
  }

  Result<DirtyPages> harvest_dirty_pages() override {
    const std::lock_guard lock(guest_->mutex_);
    if (!guest_->dirty_pages_) return fail("dirty pages are not tracked");
    return std::exchange(*guest_->dirty_pages_, DirtyPages(guest_->memory_->regions()));
  }

 private:
  Result<> change(GuestPhysicalAddress address, std::uint64_t size, bool given) {
    const std::lock_guard lock(guest_->mutex_);
    if (guest_->memory_ == nullptr || !guest_->memory_->at(address, size)) return fail("there is no such memory");
    for (std::uint64_t offset = 0; offset < size; offset += 4096)
      guest_->changes_.emplace_back(address + offset, given);
    return {};
  }

  Result<> set_frozen(bool frozen) {
    const std::lock_guard lock(guest_->mutex_);
    guest_->frozen_ = frozen;
    return {};
  }

  std::shared_ptr<FakeGuest> guest_;
};

void FakeGuest::write_page(GuestPhysicalAddress address) {
  const std::lock_guard lock(mutex_);
  if (dirty_pages_) dirty_pages_->mark(address);
}

bool FakeGuest::time_is_frozen() const {
  const std::lock_guard lock(mutex_);
  return frozen_;
}

bool FakeGuest::has_page(GuestPhysicalAddress address) const {
  const std::lock_guard lock(mutex_);
  const MemoryRegion* region = memory_ == nullptr ? nullptr : memory_->find(address);
  bool has = region != nullptr && region->at_start;
  for (const auto& [changed, given] : changes_) {
    if (changed == address) has = given;
  }
  return has;
}

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
