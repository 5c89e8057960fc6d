// SPDX-License-Identifier: Apache-2.0
//
// The guest that bench/exits measures with, and how it is talked to.
//
//   guest ──OUT 0x510──▶ host: done, what next?      host writes {operation, count} to 0x500 and runs on
//
// Memory from 0 to kMemorySize, and one page that ends at 4 GiB with the reset vector in it.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>

namespace bulkhead::bench {

// guest.S has the same order.
enum class Operation : std::uint32_t { Empty, Identify, Hypercall, ReadMsr, PortWrite, MmioRead, Interrupt };

inline constexpr std::uint64_t kMemorySize = 0x200000;
inline constexpr std::uint64_t kResetPage = 0xfffff000;
inline constexpr std::uint16_t kEndPort = 0x510;
inline constexpr std::uint32_t kProcessors = 2;

extern "C" const std::uint8_t exit_cost_guest[];
extern "C" const std::uint8_t exit_cost_guest_end[];
extern "C" const std::uint8_t exit_cost_reset_vector[];

/// Puts the guest into its memory: `low` is guest memory from 0, `reset_page` the page at kResetPage.
inline void load_guest(std::span<std::uint8_t> low, std::span<std::uint8_t> reset_page) {
  std::memcpy(&low[0x1000], exit_cost_guest, static_cast<std::size_t>(exit_cost_guest_end - exit_cost_guest));
  std::memcpy(&reset_page[0xff0], exit_cost_reset_vector, 16);
}

/// Tells the guest what to do next.
inline void write_mailbox(std::span<std::uint8_t> low, Operation operation, std::uint32_t count) {
  const std::array<std::uint32_t, 2> mailbox = {static_cast<std::uint32_t>(operation), count};
  std::memcpy(&low[0x500], mailbox.data(), sizeof(mailbox));
}

/// A machine that runs the guest.
class Host {
 public:
  virtual ~Host() = default;
  /// The guest's memory from 0.
  virtual std::span<std::uint8_t> memory() = 0;
  /// Runs processor 0 until the guest asks what next. False, with a message on stderr, if that fails.
  virtual bool run_to_end() = 0;
};

}  // namespace bulkhead::bench
