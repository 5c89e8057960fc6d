// SPDX-License-Identifier: Apache-2.0
//
// Stands in for the driver and the hypervisor: a test writes the intercept messages, and sees what the engine asked
// for.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "engine/native/vid.hpp"

namespace bulkhead::engine::native {

/// One processor's state, which outlives the objects that the engine holds.
struct FakeVidState {
  struct Hypercall {
    std::uint16_t code;
    std::vector<std::uint8_t> input;
  };

  /// Each run takes one: it prepares message and register page, and says how the run ends.
  std::deque<std::function<RunEnd()>> runs;
  abi::RegisterPage page{};
  abi::InterceptMessage message{};
  std::map<abi::RegisterName, hv_register_value> registers;
  std::vector<bulkhead_assert_interrupt> interrupts;
  std::vector<Hypercall> hypercalls;
  std::vector<bulkhead_post_message> messages;
  std::vector<bulkhead_signal_event> events;
  SynicStatus synic_status = SynicStatus::Delivered;
  std::vector<std::uint64_t> mapped;                // guest physical addresses, in the order in which they were mapped
  std::map<std::uint64_t, std::uint64_t> mappings;  // that there are: address and size
  bool host_is_empty = false;
  std::map<std::uint32_t, std::vector<std::uint8_t>> states;
  std::vector<std::string> reads;  // "registers" and "state", in the order in which they were asked for
  std::set<std::uint64_t> dirty;   // page numbers
  std::uint64_t reference_time = 0;
  std::uint32_t cpuid_leaves = 0xd;  // what each family's first leaf answers, beyond its number
  std::uint32_t last_dirty = 0;      // of the register page, at the last run
  std::atomic<int> cancels = 0;
  bool initialized = false;
  bulkhead_information information = {.vid_version = BULKHEAD_VID_VERSION,
                                      .reserved = 0,
                                      .hypervisor = {.abi_level = HV_BULKHEAD_ABI_LEVEL,
                                                     .logical_processors = 2,
                                                     .maximum_vps = 64,
                                                     .partitions = 0,
                                                     .image_bytes = 0,
                                                     .memory_bytes = 0,
                                                     .root_pool_pages_available = 0,
                                                     .root_pool_pages_in_use = 0,
                                                     .deposited_pages = 0,
                                                     .tsc_frequency = 1'000'000'000,
                                                     .exits = 0,
                                                     .interrupts = 0}};
};

class FakeVidProcessor final : public VidProcessor {
 public:
  explicit FakeVidProcessor(FakeVidState& state) : state_(state) {}
  abi::RegisterPage& register_page() override { return state_.page; }
  const abi::InterceptMessage& message() const override { return state_.message; }
  Result<RunEnd> run() override {
    state_.last_dirty = state_.page.dirty;
    state_.page.dirty = 0;
    if (state_.runs.empty()) return fail("the test has no more runs");
    auto next = std::move(state_.runs.front());
    state_.runs.pop_front();
    return next();
  }
  void cancel() override { ++state_.cancels; }
  Result<> get_registers(std::span<hv_register_assignment> assignments) override {
    state_.reads.emplace_back("registers");
    for (auto& assignment : assignments)
      assignment.value = state_.registers[static_cast<abi::RegisterName>(assignment.name)];
    return {};
  }
  Result<> set_registers(std::span<hv_register_assignment> assignments) override {
    for (const auto& assignment : assignments)
      state_.registers[static_cast<abi::RegisterName>(assignment.name)] = assignment.value;
    return {};
  }
  Result<> get_state(hv_vp_state_type type, std::span<std::uint8_t> state) override {
    state_.reads.emplace_back("state");
    auto& stored = state_.states[type];
    stored.resize(state.size());
    std::ranges::copy(stored, state.begin());
    return {};
  }
  Result<> set_state(hv_vp_state_type type, std::span<const std::uint8_t> state) override {
    state_.states[type].assign(state.begin(), state.end());
    return {};
  }

 private:
  FakeVidState& state_;
};

class FakeVidPartition final : public VidPartition {
 public:
  explicit FakeVidPartition(FakeVidState& state) : state_(state) {}
  Result<> initialize() override {
    state_.initialized = true;
    return {};
  }
  Result<> map_memory(const VidMemory&, std::uint32_t, std::uint64_t gpa, std::uint64_t size) override {
    state_.mapped.push_back(gpa);
    state_.mappings[gpa] = size;
    return {};
  }
  Result<> unmap_memory(std::uint64_t gpa, std::uint64_t size) override {
    const auto found = state_.mappings.find(gpa);
    if (found == state_.mappings.end() || found->second != size) return fail("there is no such mapping");
    state_.mappings.erase(found);
    return {};
  }
  Result<std::unique_ptr<VidProcessor>> create_vp(std::uint32_t) override {
    return std::make_unique<FakeVidProcessor>(state_);
  }
  Result<> assert_interrupt(const bulkhead_assert_interrupt& interrupt) override {
    state_.interrupts.push_back(interrupt);
    return {};
  }
  Result<SynicStatus> post_message(const bulkhead_post_message& message) override {
    state_.messages.push_back(message);
    return state_.synic_status;
  }
  Result<SynicStatus> signal_event(const bulkhead_signal_event& event) override {
    state_.events.push_back(event);
    return state_.synic_status;
  }
  Result<> hypercall(std::uint16_t code, std::span<const std::uint8_t> input, std::span<std::uint8_t> output,
                     std::uint32_t repetitions) override {
    state_.hypercalls.push_back({code, {input.begin(), input.end()}});
    switch (code) {
      case HV_CALL_GET_PARTITION_PROPERTY:
        std::memcpy(output.data(), &state_.reference_time, sizeof state_.reference_time);
        break;
      case HV_CALL_GET_GPA_PAGES_ACCESS_STATES: access_states(input, output); break;
      case HV_CALL_GET_VP_CPUID_VALUES:
        for (std::uint32_t index = 0; index < repetitions; ++index) {
          hv_cpuid_leaf leaf;
          std::memcpy(&leaf, input.data() + sizeof(hv_get_vp_cpuid_values) + index * sizeof leaf, sizeof leaf);
          const bool first = (leaf.leaf & 0xffff) == 0;
          const hv_cpuid_values values{first ? leaf.leaf + state_.cpuid_leaves : leaf.subleaf, ~0u, ~0u, ~0u};
          std::memcpy(output.data() + index * sizeof values, &values, sizeof values);
        }
        break;
      default: break;
    }
    return {};
  }

 private:
  void access_states(std::span<const std::uint8_t> input, std::span<std::uint8_t> output) {
    hv_get_gpa_pages_access_states call;
    std::memcpy(&call, input.data(), sizeof call);
    for (std::size_t index = 0; index < output.size(); ++index) {
      const std::uint64_t page = call.gpa_base + index;
      output[index] = state_.dirty.contains(page) ? HV_GPA_PAGE_DIRTY : 0;
      if (call.flags & HV_GPA_ACCESS_CLEAR_DIRTY) state_.dirty.erase(page);
      if (call.flags & HV_GPA_ACCESS_SET_DIRTY) state_.dirty.insert(page);
    }
  }

  FakeVidState& state_;
};

class FakeVid final : public Vid {
 public:
  explicit FakeVid(FakeVidState& state) : state_(state) {}
  Result<bulkhead_information> information() override { return state_.information; }
  Result<std::unique_ptr<VidMemory>> create_memory(std::span<std::uint8_t>, bool) override {
    if (state_.host_is_empty) return fail("cannot pin memory");
    return std::make_unique<VidMemory>();
  }
  Result<std::unique_ptr<VidPartition>> create_partition(std::uint64_t) override {
    return std::make_unique<FakeVidPartition>(state_);
  }

 private:
  FakeVidState& state_;
};

}  // namespace bulkhead::engine::native
