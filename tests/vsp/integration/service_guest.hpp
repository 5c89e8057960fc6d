// SPDX-License-Identifier: Apache-2.0
//
// The guest's end of an integration service for tests: it opens the service's channel, comes to terms about versions, and
// answers what the host asks, or does not, or wrongly. Written after abi/integration/ alone.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "abi/integration/frame.hpp"
#include "state/inspection.hpp"
#include "tests/state/fake_clock.hpp"
#include "tests/vmbus/fake_guest.hpp"
#include "vsp/integration/service.hpp"

namespace bulkhead::vsp::integration {

using abi::integration::MessageFlags;
using abi::integration::MessageHeader;
using abi::integration::MessageType;
using abi::integration::Status;
using abi::integration::Version;
using state::FakeClock;
using state::FakeWallClock;

/// A message of the host's.
struct HostMessage {
  MessageHeader header;
  Bytes body;

  template <typename Body>
  Body as() const {
    return vmbus::part_of<Body>(body);
  }
};

/// The versions that a host's NEGOTIATE names.
struct Offered {
  std::vector<Version> frameworks;
  std::vector<Version> messages;
};
Offered offered_in(const HostMessage& negotiation);

class ServiceDriver {
 public:
  /// The service lives longer than the guest.
  ServiceDriver(FakeClock& clock, Service& service, vmbus::FakeGuest& guest);

  /// Opens the channel, with rings of so many pages; the host's NEGOTIATE is not read yet.
  void open(std::size_t pages = 6);
  void close();
  /// Opens the channel and chooses these versions.
  void connect(Version message, Version framework = {3, 0});
  /// Answers the host's NEGOTIATE.
  void choose(const HostMessage& negotiation, Version framework, Version message);

  /// The next message of the host's, if there is one.
  std::optional<HostMessage> receive();
  /// An answer: the host's header comes back as a response.
  void answer(const HostMessage& request, std::span<const std::uint8_t> body = {}, Status status = Status::Ok);
  template <typename Body>
  void answer_with(const HostMessage& request, const Body& body, Status status = Status::Ok) {
    answer(request, vmbus::bytes_of(body), status);
  }
  /// Any header and body.
  void send(const MessageHeader& header, std::span<const std::uint8_t> body);
  /// Any bytes, as the payload of a packet. False: the ring is full.
  bool send_raw(std::span<const std::uint8_t> payload, std::uint16_t flags = 0, bool signals = true);

  vmbus::GuestChannel& channel() { return *channel_; }
  /// A value of the service's inspection, as text.
  std::string inspected(const std::string& name) const;

 private:
  FakeClock& clock_;
  Service& service_;
  vmbus::FakeGuest& guest_;
  abi::vmbus::ChannelId id_;
  std::optional<vmbus::GuestChannel> channel_;
};

/// A service with all that is around it. `Kind` is made with the clock and what else is passed.
template <typename Kind>
struct Rig {
  template <typename... More>
  explicit Rig(More&&... more) : service(clock, std::forward<More>(more)...) {}

  FakeClock clock;
  Kind service;
  vmbus::FakeGuest fake;
  ServiceDriver guest{clock, service, fake};
};

}  // namespace bulkhead::vsp::integration
