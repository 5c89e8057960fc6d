// SPDX-License-Identifier: Apache-2.0
//
// One integration service and a hostile guest, made by structure: the input chooses when the guest opens and closes, which
// versions it takes, what it answers with (the host's own message, changed here and there), what it repeats, when it is
// silent or floods, when the machine is saved, and what the host asks of the service meanwhile. Beside the sanitizers: who
// asked hears of the end, once; time and memory that a guest can take are bounded.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>

#include "tests/fuzz_input.hpp"
#include "tests/vsp/integration/service_guest.hpp"

namespace bulkhead::vsp::integration {

/// What the host has asked for, and what it has heard of.
struct Asked {
  unsigned begun = 0;
  unsigned ended = 0;

  /// For a request that is about to be made.
  std::function<void(Result<>)> expect() {
    ++begun;
    return [this](const Result<>&) { ++ended; };
  }
};

class ServiceFuzz {
 public:
  /// `act` makes the host ask for something. `versions` are those of the service.
  ServiceFuzz(FakeClock& clock, Service& service, std::vector<Version> versions, Asked& asked,
              std::function<void(fuzz::Input&)> act)
      : clock_(clock),
        service_(service),
        versions_(std::move(versions)),
        asked_(asked),
        act_(std::move(act)),
        guest_(clock, service, fake_) {}

  void run(fuzz::Input input);

 private:
  void step(fuzz::Input& input);
  void open(fuzz::Input& input);
  void take_messages();
  void answer(fuzz::Input& input);
  void answer_changed(fuzz::Input& input);
  void flood(fuzz::Input& input);
  void save_and_restore();

  static constexpr unsigned kMostOpenings = 40;  // as the fake guest's memory has room for

  FakeClock& clock_;
  Service& service_;
  std::vector<Version> versions_;
  Asked& asked_;
  std::function<void(fuzz::Input&)> act_;
  vmbus::FakeGuest fake_;
  ServiceDriver guest_;
  bool open_ = false;
  unsigned openings_ = 0;
  std::vector<HostMessage> received_;  // the last of them
};

}  // namespace bulkhead::vsp::integration
