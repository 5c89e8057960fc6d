// SPDX-License-Identifier: Apache-2.0
//
// How one of the root's calls is written: a handler gets its input already copied and checked for size, and fills an output
// that is copied to the root afterwards. So no handler touches memory that the root can change meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "abi/hypercall.h"
#include "hypervisor/hypercall/control_word.hpp"

namespace bulkhead::hypervisor {

/// Bytes of rep elements that one entry handles at most, in and out: it keeps an entry short and its buffers small.
inline constexpr std::size_t kRepBytesPerEntry = 512;
inline constexpr std::uint32_t kRepsPerEntry = 64;

struct RootCall {
  std::span<const std::byte> header;    // the fixed input
  std::span<const std::byte> variable;  // what follows it, for calls that have a variable header
  std::span<const std::byte> elements;  // of the repetitions to be done now
  std::span<std::byte> output;          // of a simple call, or of these repetitions
  std::uint32_t first = 0;              // repetition
  std::uint32_t count = 0;              // repetitions to be done now
  bool last = true;                     // no repetitions come after these

  template <typename T>
  T input() const {
    T value;
    std::memcpy(&value, header.data(), sizeof value);
    return value;
  }
  template <typename T>
  T element(std::uint32_t index) const {
    T value;
    std::memcpy(&value, elements.data() + index * sizeof value, sizeof value);
    return value;
  }
  template <typename T>
  void put(const T& value, std::uint32_t index = 0) const {
    std::memcpy(output.data() + index * sizeof value, &value, sizeof value);
  }
};

struct RootCallResult {
  hv_status status = HV_STATUS_SUCCESS;
  std::uint32_t done = 0;  // of `count`
  bool again = false;      // a simple call that is not finished: execute it again

  // NOLINTNEXTLINE(google-explicit-constructor): a plain status is the result of most handlers
  constexpr RootCallResult(hv_status value, std::uint32_t repetitions = 0) : status(value), done(repetitions) {}
};

using RootHandler = RootCallResult (*)(const RootCall& call);

namespace root {

// partition_calls.cpp
RootCallResult create_partition(const RootCall& call);
RootCallResult initialize_partition(const RootCall& call);
RootCallResult finalize_partition(const RootCall& call);
RootCallResult delete_partition(const RootCall& call);
RootCallResult get_partition_property(const RootCall& call);
RootCallResult set_partition_property(const RootCall& call);
RootCallResult get_next_child_partition(const RootCall& call);
RootCallResult install_intercept(const RootCall& call);
RootCallResult register_intercept_result(const RootCall& call);
RootCallResult information(const RootCall& call);

// memory_calls.cpp
RootCallResult deposit_memory(const RootCall& call);
RootCallResult withdraw_memory(const RootCall& call);
RootCallResult get_memory_balance(const RootCall& call);
RootCallResult map_gpa_pages(const RootCall& call);
RootCallResult unmap_gpa_pages(const RootCall& call);
RootCallResult get_gpa_pages_access_states(const RootCall& call);

// vp_calls.cpp
RootCallResult create_vp(const RootCall& call);
RootCallResult delete_vp(const RootCall& call);
RootCallResult get_vp_registers(const RootCall& call);
RootCallResult set_vp_registers(const RootCall& call);
RootCallResult assert_virtual_interrupt(const RootCall& call);
RootCallResult post_message_direct(const RootCall& call);
RootCallResult signal_event_direct(const RootCall& call);
RootCallResult dispatch_vp(const RootCall& call);
/// The same with its input and output in hand. `output` is written on success only.
hv_status dispatch(const hv_dispatch_vp& input, hv_dispatch_vp_output& output);
RootCallResult map_vp_state_page(const RootCall& call);
RootCallResult unmap_vp_state_page(const RootCall& call);
RootCallResult get_vp_state(const RootCall& call);
RootCallResult set_vp_state(const RootCall& call);
RootCallResult get_vp_cpuid_values(const RootCall& call);

}  // namespace root
}  // namespace bulkhead::hypervisor
