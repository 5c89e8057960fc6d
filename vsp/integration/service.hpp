// SPDX-License-Identifier: Apache-2.0
//
// An integration service: one conversation between the host and a part of the guest's operating system, over a channel
// of its own. The host asks, the guest answers; one request is under way at a time.
//
//   Closed ── guest opens ──▶ Opened ── offer of versions ──▶ Negotiating ── one in common ──▶ Ready ◀──▶ a request
//     ▲                     (the guest is still                    │                                     under way
//     │                      being told so)                        └── none in common ──▶ Incompatible
//     └── guest closes, reset: from all of them
//
//   heartbeat, shutdown, time synchronization,     each: what it asks, and what it makes of the answers
//   key-value exchange, volume snapshot, file copy
//   ─────────────────────────────────────────────
//   Service     versions, transactions, time limits, and what a guest may do wrong
//   ─────────────────────────────────────────────
//   vmbus::Channel
//
// The guest is not trusted. A message that is malformed, that answers nothing (a replay, or too late) or that does not
// come is counted and shown by `inspect`; what a guest says is kept in places of a fixed size; a flood of messages is
// taken in portions, with time between them for the rest of the machine.
//
// All calls come with the machine's lock held; so do the callbacks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "abi/integration/frame.hpp"
#include "state/clock.hpp"
#include "state/state_unit.hpp"
#include "vmbus/channel.hpp"
#include "vsp/integration/message.hpp"
#include "vsp/portioned_reader.hpp"

namespace bulkhead::vsp::integration {

/// What a service is, apart from what it does.
struct Profile {
  std::string_view name;   // of the state unit
  std::string_view title;  // in messages, e.g. "shutdown service"
  abi::Guid interface_type;
  abi::Guid instance;
  abi::integration::MessageType type;
  std::span<const abi::integration::Version> message_versions;  // newest first
};

enum class Phase : std::uint8_t { Closed, Opened, Negotiating, Incompatible, Ready };
/// "closed", "opened", "negotiating", "incompatible", "ready".
std::string_view to_text(Phase phase);

/// What a guest did wrong since power-on.
struct Faults {
  std::uint64_t unanswered = 0;  // requests
  std::uint64_t unexpected = 0;  // messages that answer nothing: replays, or too late
  std::uint64_t malformed = 0;
};

class Service : public vmbus::ChannelProvider, public state::StateUnit {
 public:
  /// The profile and the clock live longer.
  Service(const Profile& profile, state::Clock& clock);

  /// How the service's channel is to be offered.
  vmbus::OfferParameters offer() const;
  Phase phase() const { return phase_; }
  /// Ready, and no request is under way.
  bool is_idle() const { return phase_ == Phase::Ready && !outstanding_; }
  const Versions& versions() const { return versions_; }
  const Faults& faults() const { return faults_; }

  // vmbus::ChannelProvider
  std::size_t completion_size() const final { return 0; }
  Result<> open(vmbus::Channel& channel) final;
  void readable(vmbus::Channel& channel) final { reader_.read(channel); }
  void close(vmbus::Channel& channel) final;
  void restored(vmbus::Channel& channel) final { channel_ = &channel; }

  // state::StateUnit
  std::string_view name() const final { return profile_.name; }
  void start() final;
  /// The clock stands still with the machine, and so do the service's timers.
  void stop() final {}
  void reset() final;
  state::SavedUnit save() const final;
  Result<> restore(const state::SavedUnit& saved) final;
  void inspect(state::Inspection& node) const final;

 protected:
  // What a service does about the events of its conversation.
  virtual void on_ready() {}
  /// The guest has let go of the channel, or the machine was reset; nothing is under way any more.
  virtual void on_closed() {}
  /// The answer to the request under way. False: the body makes no sense, which is counted.
  virtual bool on_answer(abi::integration::Status status, std::span<const std::uint8_t> body) = 0;
  /// The time limit of the request under way has passed. An answer that still comes is ignored.
  virtual void on_silence() = 0;
  /// The machine goes on after a restore; a request that was under way when it was saved is no more.
  virtual void on_restored() {}
  virtual void inspect_more(state::Inspection&) const {}
  virtual void save_more(state::SavedUnit&) const {}
  /// Reads what save_more wrote, and says what is to be done with it if all else was well too.
  virtual std::function<void()> read_more(state::SavedReader&) {
    return [] {};
  }

  /// Sends a request whose answer must come within `limit`. Errors: the guest does not run the service, or it speaks no
  /// version in common, another request is under way, the guest does not read what is sent to it.
  Result<> request(std::span<const std::uint8_t> body, state::Nanoseconds limit);
  /// Stops waiting for an answer.
  void abandon_request();
  /// Why requests cannot be made now, if they cannot.
  Result<> check_ready() const;
  state::Clock& clock() { return clock_; }

 private:
  struct Outstanding {
    std::uint8_t transaction;
    state::Nanoseconds deadline;
  };

  Result<> send(const Bytes& message);
  void take(Result<vmbus::Packet> packet);
  void take_message(const Message& message);
  void take_choice(const Message& message);
  void malformed(std::string why);
  void close_conversation();
  void negotiate();
  void time_passed();

  const Profile& profile_;
  state::Clock& clock_;
  std::unique_ptr<state::Timer> timer_;  // when Opened: to offer versions; when Ready: the request's time limit
  PortionedReader reader_;
  vmbus::Channel* channel_ = nullptr;  // while the guest has it open
  Phase phase_ = Phase::Closed;
  Versions versions_;
  std::uint8_t transaction_ = 0;
  std::optional<Outstanding> outstanding_;

  // What people want to know of a guest that misbehaves.
  std::uint64_t answers_ = 0;
  Faults faults_;
  std::string last_fault_;
};

}  // namespace bulkhead::vsp::integration
