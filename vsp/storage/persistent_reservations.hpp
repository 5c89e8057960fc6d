// SPDX-License-Identifier: Apache-2.0
//
// Persistent reservations of one logical unit (SPC-4 5.13, 6.15, 6.16). A disk here has one initiator, the guest it
// belongs to, so that nobody else can hold what it reserves: what remains is that registrations, types and keys behave
// as a cluster's software in the guest expects them to.
//
//    unregistered ── REGISTER ──▶ registered ── RESERVE ──▶ holder
//         ▲                           │  ▲ ◀── RELEASE ───────│
//         └── REGISTER with key 0, CLEAR ┴────────────────────┘
//
// Nothing of it survives the machine's power (PTPL_C is 0, and APTPL is refused).
#pragma once

#include <cstdint>

#include "state/inspection.hpp"
#include "state/saved_state.hpp"
#include "vsp/storage/scsi_command.hpp"

namespace bulkhead::vsp::storage {

class PersistentReservations {
 public:
  ScsiResult reserve_in(const ScsiCommand& command) const;
  ScsiResult reserve_out(const ScsiCommand& command);
  /// Power was off.
  void clear() { *this = {}; }

  void save(state::SavedUnit& unit) const;
  void restore(state::SavedReader& reader);
  void inspect(state::Inspection& node) const;

 private:
  struct OutParameters;
  ScsiResult register_key(const OutParameters& parameters, bool ignore_existing);
  ScsiResult reserve(std::uint8_t scope_and_type);
  ScsiResult release(std::uint8_t scope_and_type);
  ScsiResult preempt(const OutParameters& parameters, std::uint8_t scope_and_type);
  std::vector<std::uint8_t> full_status() const;

  std::uint64_t key_ = 0;  // 0: not registered
  std::uint8_t type_ = 0;  // 0: no reservation
  std::uint32_t generation_ = 0;
};

}  // namespace bulkhead::vsp::storage
