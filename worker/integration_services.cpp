// SPDX-License-Identifier: Apache-2.0
#include "worker/integration_services.hpp"

namespace bulkhead::worker {
namespace {

/// Far from the small numbers that disks and networks take. Each service has its own, also when others are off.
constexpr std::uint32_t kFirstChannel = 1025;

}  // namespace

IntegrationServices::IntegrationServices(const IntegrationChoice& choice, state::Clock& clock,
                                         const state::WallClock& wall_clock,
                                         const vsp::integration::ReferenceTime* reference,
                                         IntegrationObserver& observer) {
  if (choice.heartbeat) {
    heartbeat_.emplace(clock, [&observer](auto state) { observer.heartbeat_changed(state); });
  }
  if (choice.shutdown) shutdown_.emplace(clock);
  if (choice.time_synchronization) time_synchronization_.emplace(clock, wall_clock, reference);
  if (choice.key_value_exchange) key_value_exchange_.emplace(clock);
  if (choice.volume_snapshot) volume_snapshot_.emplace(clock, [&observer] { observer.file_systems_let_go(); });
  if (choice.file_copy) file_copy_.emplace(clock);
}

Result<> IntegrationServices::offer(vmbus::Bus& bus, UnitTree& units) {
  Result<> offered;
  std::uint32_t channel = kFirstChannel;
  const auto add = [&](auto& service) {
    const abi::vmbus::ChannelId id{channel++};
    if (!service || !offered) return;
    if (auto made = bus.offer(service->offer(), *service, id); !made) {
      offered = std::unexpected(made.error());
      return;
    }
    offered = units.add(*service, {"clock", "vmbus"});
  };
  add(heartbeat_);
  add(shutdown_);
  add(time_synchronization_);
  add(key_value_exchange_);
  add(volume_snapshot_);
  add(file_copy_);
  return offered;
}

}  // namespace bulkhead::worker
