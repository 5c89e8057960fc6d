// SPDX-License-Identifier: Apache-2.0
//
// INIT and startup IPIs between the root's virtual processors. They never reach the hardware: an INIT would take a
// processor away from the hypervisor. AMD64 APM volume 2, section 14.4 and 16.5.
//
//            INIT                    INIT taken              SIPI
//   Running ──────▶ InitPending ──────────────▶ WaitForSipi ──────▶ SipiPending(vector) ──▶ Running
//                        └───────────────────────── SIPI ─────────────▶┘
#pragma once

#include <atomic>
#include <cstdint>

#include "hypervisor/apic/interrupt_request.hpp"

namespace bulkhead::hypervisor::root {

/// INIT, startup and NMI concern the hypervisor; everything else goes to the hardware as it is.
constexpr bool is_for_hardware(DeliveryMode mode) {
  return mode != DeliveryMode::Nmi && mode != DeliveryMode::Init && mode != DeliveryMode::StartUp;
}

class StartupState {
 public:
  enum class Phase : std::uint8_t { Running, InitPending, WaitForSipi, SipiPending };

  /// What senders do. True: the target has to be told.
  bool send_init() { return state_.exchange(encode(Phase::InitPending)) != encode(Phase::InitPending); }
  bool send_sipi(std::uint8_t vector) {
    std::uint32_t old = state_.load();
    for (;;) {
      if (phase(old) != Phase::InitPending && phase(old) != Phase::WaitForSipi) return false;
      if (state_.compare_exchange_weak(old, encode(Phase::SipiPending, vector))) return true;
    }
  }

  /// What the target does. After its reset: goes from InitPending to WaitForSipi, unless a SIPI came already.
  void take_init() {
    std::uint32_t expected = encode(Phase::InitPending);
    state_.compare_exchange_strong(expected, encode(Phase::WaitForSipi));
  }
  /// If a SIPI is pending, the target runs from here on, at vector << 12. An INIT sent meanwhile wins.
  bool take_sipi(std::uint8_t& vector) {
    std::uint32_t old = state_.load();
    if (phase(old) != Phase::SipiPending) return false;
    vector = static_cast<std::uint8_t>(old);
    return state_.compare_exchange_strong(old, encode(Phase::Running));
  }

  /// A processor that has not been started yet waits for a SIPI.
  void start_waiting() { state_.store(encode(Phase::WaitForSipi)); }
  /// The boot processor.
  void start_running() { state_.store(encode(Phase::Running)); }
  Phase phase() const { return phase(state_.load()); }

 private:
  static constexpr std::uint32_t encode(Phase phase, std::uint8_t vector = 0) {
    return (static_cast<std::uint32_t>(phase) << 8) | vector;
  }
  static constexpr Phase phase(std::uint32_t state) { return static_cast<Phase>(state >> 8); }

  std::atomic<std::uint32_t> state_{encode(Phase::Running)};
};

}  // namespace bulkhead::hypervisor::root
