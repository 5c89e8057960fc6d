// SPDX-License-Identifier: Apache-2.0
//
// Volume snapshots (VSS): holds the writes to the guest's file systems while the host takes a checkpoint, and lets go of
// them again: when told, or when the time limit has passed, whatever became of who asked for it.
//
//   Thawed ── freeze: can the guest do this? ──▶ Asking ──▶ Freezing ──▶ Frozen ── thaw, time limit ──▶ Thawing ──▶ Thawed
//
// A thaw that is not answered is sent again, until the guest answers or closes the channel.
#pragma once

#include <functional>

#include "abi/integration/volume_snapshot.hpp"
#include "vsp/integration/service.hpp"

namespace bulkhead::vsp::integration {

class VolumeSnapshot final : public Service {
 public:
  using Done = std::function<void(Result<>)>;
  enum class State : std::uint8_t { Thawed, Asking, Freezing, Frozen, Thawing };

  /// `let_go` is called when the guest's file systems were thawed by the time limit.
  VolumeSnapshot(state::Clock& clock, std::function<void()> let_go);

  /// Freezes the guest's file systems for at most `limit`, 1 s to 10 minutes, from the moment they are frozen.
  /// Errors: frozen already, the guest cannot, refuses or does not answer.
  void freeze(state::Nanoseconds limit, Done done);
  /// Error: not frozen, or the limit has passed before.
  void thaw(Done done);

  State state() const { return state_; }

 private:
  void on_closed() override;
  bool on_answer(abi::integration::Status status, std::span<const std::uint8_t> body) override;
  void on_silence() override;
  void on_restored() override;
  void inspect_more(state::Inspection& node) const override;
  void save_more(state::SavedUnit& unit) const override;
  std::function<void()> read_more(state::SavedReader& reader) override;

  Result<> send(abi::integration::SnapshotOperation operation);
  void send_thaw();
  void limit_passed();
  void finish(Result<> result);

  std::function<void()> let_go_;
  std::unique_ptr<state::Timer> limit_timer_;
  std::unique_ptr<state::Timer> retry_timer_;
  State state_ = State::Thawed;
  state::Nanoseconds limit_{0};
  Done done_;  // of the freeze or thaw under way
  std::uint64_t let_go_count_ = 0;
};

}  // namespace bulkhead::vsp::integration
