// SPDX-License-Identifier: Apache-2.0
//
// The driver's interface (abi/vid.h) as the native engine uses it: one function for each request, without descriptors
// and user addresses, so that tests can stand in for the driver.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "abi/intercept_message.hpp"
#include "abi/register_page.hpp"
#include "abi/vid.h"
#include "engine/synic.hpp"
#include "error/error.hpp"

namespace bulkhead::engine::native {

/// How a run ended.
enum class RunEnd : std::uint8_t { Intercept, Cancelled, Suspended };

class VidProcessor {
 public:
  virtual ~VidProcessor() = default;
  virtual abi::RegisterPage& register_page() = 0;
  virtual const abi::InterceptMessage& message() const = 0;
  virtual Result<RunEnd> run() = 0;
  /// From any thread: the current run, or else the next one, ends with Cancelled.
  virtual void cancel() = 0;
  virtual Result<> get_registers(std::span<hv_register_assignment> assignments) = 0;
  virtual Result<> set_registers(std::span<hv_register_assignment> assignments) = 0;
  /// Of a type in a page as much as is wanted, at most HV_PAGE_SIZE; of another the whole structure.
  virtual Result<> get_state(hv_vp_state_type type, std::span<std::uint8_t> state) = 0;
  virtual Result<> set_state(hv_vp_state_type type, std::span<const std::uint8_t> state) = 0;
};

/// Pinned memory of this process.
class VidMemory {
 public:
  virtual ~VidMemory() = default;
};

class VidPartition {
 public:
  virtual ~VidPartition() = default;
  virtual Result<> initialize() = 0;
  virtual Result<> map_memory(const VidMemory& memory, std::uint32_t access, std::uint64_t gpa, std::uint64_t size) = 0;
  /// Exactly what one map_memory has mapped. Afterwards the guest reaches none of it.
  virtual Result<> unmap_memory(std::uint64_t gpa, std::uint64_t size) = 0;
  virtual Result<std::unique_ptr<VidProcessor>> create_vp(std::uint32_t index) = 0;
  /// From any thread.
  virtual Result<> assert_interrupt(const bulkhead_assert_interrupt& interrupt) = 0;
  /// From any thread. `Busy` where the SynIC does not take it now; an error only for what is wrong with the request.
  virtual Result<SynicStatus> post_message(const bulkhead_post_message& message) = 0;
  virtual Result<SynicStatus> signal_event(const bulkhead_signal_event& event) = 0;
  /// `input` starts with the partition id, which the driver fills in. `repetitions`: the length of a rep call's list.
  virtual Result<> hypercall(std::uint16_t code, std::span<const std::uint8_t> input, std::span<std::uint8_t> output,
                             std::uint32_t repetitions = 0) = 0;
};

class Vid {
 public:
  virtual ~Vid() = default;
  virtual Result<bulkhead_information> information() = 0;
  virtual Result<std::unique_ptr<VidMemory>> create_memory(std::span<std::uint8_t> bytes, bool read_only) = 0;
  virtual Result<std::unique_ptr<VidPartition>> create_partition(std::uint64_t creation_flags) = 0;
};

/// The real one.
Result<std::unique_ptr<Vid>> open_vid(const char* device);

}  // namespace bulkhead::engine::native
