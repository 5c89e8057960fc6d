// SPDX-License-Identifier: Apache-2.0
//
// Heartbeat: is the guest's kernel still there? Asked every two seconds.
//
//   NoContact ── the guest's driver is there ──▶ Ok ◀── an answer ── no answer in time ──▶ Lost
#pragma once

#include <functional>

#include "abi/integration/heartbeat.hpp"
#include "vsp/integration/service.hpp"

namespace bulkhead::vsp::integration {

enum class HeartbeatState : std::uint8_t { NoContact, Ok, Lost };

/// "no contact", "ok", "lost".
std::string_view to_text(HeartbeatState state);

class Heartbeat final : public Service {
 public:
  /// `changed` is called with the machine's lock held whenever the state has changed.
  Heartbeat(state::Clock& clock, std::function<void(HeartbeatState)> changed);

  HeartbeatState heartbeat() const { return state_; }
  abi::integration::ApplicationState applications() const { return applications_; }

 private:
  void on_ready() override;
  void on_closed() override;
  bool on_answer(abi::integration::Status status, std::span<const std::uint8_t> body) override;
  void on_silence() override;
  void on_restored() override;
  void inspect_more(state::Inspection& node) const override;
  void save_more(state::SavedUnit& unit) const override;
  std::function<void()> read_more(state::SavedReader& reader) override;

  void beat();
  void set(HeartbeatState state);

  std::function<void(HeartbeatState)> changed_;
  std::unique_ptr<state::Timer> timer_;
  HeartbeatState state_ = HeartbeatState::NoContact;
  abi::integration::ApplicationState applications_ = abi::integration::ApplicationState::Unknown;
  std::uint64_t sequence_ = 0;
};

}  // namespace bulkhead::vsp::integration
