// SPDX-License-Identifier: Apache-2.0
//
// A guest's HvCallPostMessage and HvCallSignalEvent, from its registers to the partition's listener: TLFS,
// "Inter-Partition Communication". Both engines' processors bring them here.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/guest_memory.hpp"
#include "engine/synic.hpp"

namespace bulkhead::engine {

class SynicCalls {
 public:
  /// Before processors run.
  void set_memory(const GuestMemory& memory) { memory_ = &memory; }
  void set_listener(SynicListener* listener) { listener_.store(listener); }

  // From the threads that run processors. The results are hypercall status values.

  /// Either call; `control` is the call's control word, `input` its first parameter: an address, or a fast call's value.
  std::uint16_t call(std::uint64_t control, std::uint64_t input) const;
  /// HvCallSignalEvent with its parameter in hand.
  std::uint16_t signal_event(std::uint64_t parameter) const;
  void slot_freed(abi::VpIndex vp) const;

 private:
  std::uint16_t post_message(std::uint64_t address) const;
  template <typename Input>
  std::uint16_t read(std::uint64_t address, Input& input) const;

  const GuestMemory* memory_ = nullptr;
  std::atomic<SynicListener*> listener_ = nullptr;
};

}  // namespace bulkhead::engine
