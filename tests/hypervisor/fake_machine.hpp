// SPDX-License-Identifier: Apache-2.0
//
// A machine for tests: memory is an array, processors do what the test says, and time stands still unless it is moved.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "hypervisor/hypercall/root_hypercall.hpp"
#include "hypervisor/hypervisor.hpp"
#include "hypervisor/machine.hpp"
#include "hypervisor/vp/vp_hardware.hpp"

namespace bulkhead::hypervisor::fake {

/// Registers are plain storage; what enter() returns is what the test queued, or what its function says.
class FakeVpHardware final : public VpHardware {
 public:
  explicit FakeVpHardware(const VpHardwareSettings& initial) : settings(initial), tsc_offset(initial.tsc_offset) {
    reset(false);
  }

  void load() override { ++loads; }
  void unload() override { ++unloads; }
  const Exit& enter() override;
  void flush_tlb() override { ++flushes; }
  void request_interrupt_window(unsigned priority) override { window = priority; }
  void request_nmi_window() override { ++nmi_windows; }
  ExecutionMode mode() const override { return execution_mode; }
  std::uint64_t code_space() const override {
    return execution_mode.cr3 ^ execution_mode.cs.base << 20 ^ std::uint64_t{execution_mode.cs.attributes} << 52;
  }
  void reset(bool init) override;
  void set_tsc_offset(std::int64_t offset) override { tsc_offset = offset; }
  void set_exception_intercepts(std::uint32_t vectors) override { exception_intercepts = vectors; }
  std::expected<abi::RegisterValue, hv_status> get_register(abi::RegisterName name) const override;
  hv_status set_register(abi::RegisterName name, const abi::RegisterValue& value) override;
  void publish(abi::RegisterPage& page) const override;
  void mask_nmi(bool masked) override {
    nmi_masked = masked;
    ++nmi_masks;
  }
  std::span<std::byte, kPageSize> extended_state() override { return xsave_area; }

  /// The next entries exit for these reasons, after calling the function that goes with each. When the queue is empty, for a physical interrupt.
  struct Step {
    Exit exit;
    std::function<void(FakeVpHardware&)> guest;
  };
  void then(Exit exit, std::function<void(FakeVpHardware&)> guest = {}) { steps.push_back({exit, std::move(guest)}); }
  void then(ExitReason reason, std::function<void(FakeVpHardware&)> guest = {}) {
    Exit exit{};
    exit.reason = reason;
    then(exit, std::move(guest));
  }

  VpHardwareSettings settings;
  ExecutionMode execution_mode{};
  std::map<abi::RegisterName, abi::RegisterValue> registers;
  std::deque<Step> steps;
  /// The events that entries delivered.
  std::vector<Event> delivered;
  std::int64_t tsc_offset;
  std::uint32_t exception_intercepts = 0;
  unsigned window = 0;
  std::array<std::byte, kPageSize> xsave_area{};
  int loads = 0, unloads = 0, flushes = 0, nmi_windows = 0, nmi_masks = 0, entries = 0, resets = 0;

 private:
  Exit exit_{};
};

/// All that machine:: knows. Tests change it directly.
struct Machine {
  static constexpr std::uint64_t kMemorySize = 64 << 20;
  static constexpr std::uint64_t kFrequency = 1'000'000'000;

  Machine();
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  static Machine& current();

  std::byte* at(std::uint64_t address) { return memory + address; }
  template <typename T>
  T read(std::uint64_t address) {
    T value;
    std::memcpy(&value, at(address), sizeof value);
    return value;
  }
  template <typename T>
  void write(std::uint64_t address, const T& value) {
    std::memcpy(at(address), &value, sizeof value);
  }

  /// What the root would read at an address: through its second-level table.
  Frame root_translates(std::uint64_t address) const;

  std::byte* memory;
  /// Atomic, for tests with threads.
  std::atomic<std::uint64_t> tsc{1'000'000};
  std::uint32_t lps = 2;
  std::vector<std::uint32_t> kicks;
  std::mutex mutex;
  std::function<void(std::uint32_t)> on_kick;
  std::atomic<int> root_flushes{0};
  std::map<std::uint64_t, machine::CpuidResult> cpuid;  // leaf << 32 | subleaf
  std::set<FakeVpHardware*> hardware;
  /// In the order of creation.
  std::vector<FakeVpHardware*> created;

  Frame root_table, zero_frame;
  std::vector<FrameRange> ram;
  std::vector<std::uint16_t> counters;
};

/// The logical processor that a thread plays.
extern thread_local std::uint32_t this_lp;

/// The root's side of the hypercall interface, as its driver would use it. Input and output have a page each.
class Root {
 public:
  static constexpr std::uint64_t kInputPage = 0x200000, kOutputPage = 0x201000;

  explicit Root(Machine& machine) : machine_(machine) {}

  struct Result {
    std::uint16_t status;
    std::uint32_t reps;
    unsigned entries;  // into the hypervisor
  };
  /// `control` is the whole control word; registers as given.
  Result raw(std::uint64_t control, std::uint64_t rdx, std::uint64_t r8);
  Result call(std::uint16_t code, std::span<const std::byte> input, std::uint32_t reps = 0);
  template <typename T>
  Result call(std::uint16_t code, const T& input) {
    return call(code, std::as_bytes(std::span(&input, 1)));
  }
  /// A header and a list.
  template <typename T, typename Element>
  Result call_list(std::uint16_t code, const T& header, const std::vector<Element>& list) {
    std::vector<std::byte> bytes(sizeof header + list.size() * sizeof(Element));
    std::memcpy(bytes.data(), &header, sizeof header);
    if (!list.empty()) std::memcpy(bytes.data() + sizeof header, list.data(), list.size() * sizeof(Element));
    return call(code, bytes, static_cast<std::uint32_t>(list.size()));
  }
  template <typename T>
  T output() {
    return machine_.read<T>(kOutputPage);
  }

  // The ways in which tests use calls most. Those without a result expect success.
  std::uint64_t create_partition(std::uint64_t flags = HV_PARTITION_CREATION_LAPIC_PRESENT |
                                                       HV_PARTITION_CREATION_X2APIC_CAPABLE);
  /// An active partition with enough deposited for a few VPs, and kGuestPage and the 63 pages after it as its memory from 0 on.
  std::uint64_t create_child();
  Result create_vp(std::uint64_t partition, std::uint32_t vp);
  Result deposit(std::uint64_t partition, std::uint64_t first_page, std::uint32_t count);
  std::vector<std::uint64_t> withdraw_all(std::uint64_t partition);
  hv_memory_balance balance(std::uint64_t partition);
  Result set_register(std::uint64_t partition, std::uint32_t vp, abi::RegisterName name, std::uint64_t value);
  std::uint64_t get_register(std::uint64_t partition, std::uint32_t vp, abi::RegisterName name);
  hv_dispatch_vp_output dispatch(std::uint64_t partition, std::uint32_t vp, std::uint32_t flags = 0,
                                 std::uint64_t timer_armed = ~0ull);
  Result map(std::uint64_t partition, std::uint64_t gpa_page, std::uint64_t page, std::uint32_t count,
             std::uint32_t flags = HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE | HV_MAP_GPA_KERNEL_EXECUTABLE |
                                   HV_MAP_GPA_USER_EXECUTABLE);
  Result unmap(std::uint64_t partition, std::uint64_t gpa_page, std::uint32_t count, std::uint32_t flags = 0);

 private:
  Machine& machine_;
};

/// Pages that the root has for tests: deposits from 4 MiB on, guest memory from 16 MiB on, state pages from 32 MiB on.
inline constexpr std::uint64_t kOwnDepositPage = 0x300000 / kPageSize;  // for the root's own pool
inline constexpr std::uint64_t kDepositPage = 0x400000 / kPageSize;
inline constexpr std::uint64_t kGuestPage = 0x1000000 / kPageSize;
inline constexpr std::uint64_t kStatePage = 0x2000000 / kPageSize;

}  // namespace bulkhead::hypervisor::fake
