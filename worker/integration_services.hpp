// SPDX-License-Identifier: Apache-2.0
//
// The integration services of one machine: those that were chosen, offered on channels whose numbers never change.
#pragma once

#include <optional>

#include "vmbus/bus.hpp"
#include "vsp/integration/file_copy.hpp"
#include "vsp/integration/heartbeat.hpp"
#include "vsp/integration/key_value_exchange.hpp"
#include "vsp/integration/shutdown.hpp"
#include "vsp/integration/time_synchronization.hpp"
#include "vsp/integration/volume_snapshot.hpp"
#include "worker/integration_choice.hpp"
#include "worker/unit_tree.hpp"

namespace bulkhead::worker {

/// Who wants to know. Called with the machine's lock held.
class IntegrationObserver {
 public:
  virtual ~IntegrationObserver() = default;
  virtual void heartbeat_changed(vsp::integration::HeartbeatState state) = 0;
  /// The guest's file systems were thawed because the time limit of a freeze has passed.
  virtual void file_systems_let_go() = 0;
};

class IntegrationServices {
 public:
  /// What is passed lives longer; the reference time may be null.
  IntegrationServices(const IntegrationChoice& choice, state::Clock& clock, const state::WallClock& wall_clock,
                      const vsp::integration::ReferenceTime* reference, IntegrationObserver& observer);

  /// Error: a channel or a name is taken.
  Result<> offer(vmbus::Bus& bus, UnitTree& units);

  /// Null: switched off.
  vsp::integration::Heartbeat* heartbeat() { return get(heartbeat_); }
  vsp::integration::Shutdown* shutdown() { return get(shutdown_); }
  vsp::integration::KeyValueExchange* key_value_exchange() { return get(key_value_exchange_); }
  vsp::integration::VolumeSnapshot* volume_snapshot() { return get(volume_snapshot_); }
  vsp::integration::FileCopy* file_copy() { return get(file_copy_); }

  /// Calls the function with each service that is on.
  template <typename Function>
  void each(Function function) {
    const auto call = [&](auto& service) {
      if (service) function(static_cast<vsp::integration::Service&>(*service));
    };
    call(heartbeat_);
    call(shutdown_);
    call(time_synchronization_);
    call(key_value_exchange_);
    call(volume_snapshot_);
    call(file_copy_);
  }

 private:
  template <typename Service>
  static Service* get(std::optional<Service>& service) {
    return service ? &*service : nullptr;
  }

  std::optional<vsp::integration::Heartbeat> heartbeat_;
  std::optional<vsp::integration::Shutdown> shutdown_;
  std::optional<vsp::integration::TimeSynchronization> time_synchronization_;
  std::optional<vsp::integration::KeyValueExchange> key_value_exchange_;
  std::optional<vsp::integration::VolumeSnapshot> volume_snapshot_;
  std::optional<vsp::integration::FileCopy> file_copy_;
};

}  // namespace bulkhead::worker
