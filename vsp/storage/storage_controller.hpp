// SPDX-License-Identifier: Apache-2.0
//
// A SCSI controller, or one disk of an IDE controller, on VMBus: what storvsc in the guest talks to.
//
//   guest's ring ─▶ StorageController ─▶ StorageTarget ─▶ LogicalUnit ─▶ disk::Disk ─▶ io_uring ◀─▶ guest memory
//                   │ bus side           disk side        │
//        completion ◀── storage_protocol.hpp: init        └ disk_unit.hpp, dvd_unit.hpp: SCSI commands
//
// A signal of the guest only posts work. The work takes packets out of all rings that have some (under the lock), begins
// their commands (without it), and when commands have ended writes their completions (under it). So one trip of the
// event loop serves all that has come, and data go between file and guest memory without a copy.
//
// The guest is hostile: a packet is a copy before it is looked at, its memory is checked before a disk may touch it, and
// what is under way is bounded by the room for completions in the guest's own ring.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "state/state_unit.hpp"
#include "vmbus/bus.hpp"
#include "vsp/storage/storage_protocol.hpp"
#include "vsp/storage/storage_target.hpp"

namespace bulkhead::vsp::storage {

enum class ControllerKind : std::uint8_t { Scsi, IdeDisk };

struct ControllerSettings {
  /// The state unit's name, e.g. "scsi0".
  std::string name;
  ControllerKind kind = ControllerKind::Scsi;
  /// What the guest knows a SCSI controller by. Not of IdeDisk, whose instance is made of its address.
  abi::Guid instance = {};
  /// Of IdeDisk: controller and disk, each 0 or 1.
  std::uint8_t ide_path = 0;
  std::uint8_t ide_target = 0;
  /// Besides the primary channel; one for each further processor is what guests take.
  std::uint16_t maximum_sub_channels = 0;
};

class StorageController final : public vmbus::ChannelProvider, public state::StateUnit {
 public:
  static constexpr std::uint8_t kMaximumUnits = 64;

  /// Memory and host live longer.
  StorageController(const engine::GuestMemory& memory, StorageHost& host, ControllerSettings settings);

  /// What is to be offered on the bus, with this as provider.
  vmbus::OfferParameters offer() const;

  // From the disk side.
  /// Gives the guest a disk; one that runs finds it at once. Errors: `lun` is taken, or is none the controller has.
  Result<> attach(std::uint8_t lun, std::unique_ptr<LogicalUnit> unit, Limits limits = {});
  /// Takes the disk from the guest, whether that has let go of it or not; `gone` is called on the disk side when its
  /// commands have ended and its image is closed. Error: there is none.
  Result<> detach(std::uint8_t lun, std::function<void(Result<>)> gone);
  /// The unit, or null.
  LogicalUnit* find(std::uint8_t lun) const { return target_.find(address_of_lun(lun)); }
  /// The image of this disk has another size now. The guest looks at it soon. Error: there is no such disk.
  Result<> capacity_changed(std::uint8_t lun);
  /// For what comes from now on, and what waits. Error: there is no such disk.
  Result<> set_limits(std::uint8_t lun, Limits limits);
  bool is_ide() const { return settings_.kind == ControllerKind::IdeDisk; }

  // vmbus::ChannelProvider, with the bus lock.
  std::size_t completion_size() const override { return sizeof(abi::storage::Packet); }
  Result<> open(vmbus::Channel& channel) override;
  void readable(vmbus::Channel& channel) override;
  void close(vmbus::Channel& channel) override;
  void restored(vmbus::Channel& channel) override;

  // state::StateUnit, on the disk side's thread and with the bus lock.
  std::string_view name() const override { return settings_.name; }
  void start() override;
  /// Returns when no disk touches guest memory any more.
  void stop() override;
  void reset() override;
  state::SavedUnit save() const override;
  Result<> restore(const state::SavedUnit& saved) override;
  void inspect(state::Inspection& node) const override;

 private:
  /// An open channel. It is the guest's until it closes; then it stays until what it has sent is over.
  struct OpenChannel {
    vmbus::Channel* channel;
    unsigned under_way = 0;
    bool readable = true;
    bool closing = false;
  };
  using Arrived = std::vector<std::unique_ptr<Request>>;

  static Address address_of_lun(std::uint8_t lun) { return {0, 0, lun}; }
  /// What the guest means. Guests differ in what they call the one disk of an IDE channel.
  Address address_of(const abi::storage::ScsiRequest& request) const;
  /// Disks came, went or changed: the guest looks again.
  void announce_change();
  void schedule();
  /// On the disk side: everything there is to do.
  void work();

  // With the bus lock.
  void send_completions();
  void complete(OpenChannel& open, const Request& request);
  void close_what_is_over();
  Arrived receive_all();
  void receive(OpenChannel& open, Arrived& arrived);
  std::unique_ptr<Request> take(OpenChannel& open, vmbus::Packet packet);
  void create_sub_channels(vmbus::Channel& channel, Request& request);
  void send_announcement();

  // On the disk side.
  void begin(Arrived arrived);
  bool find_data(Request& request) const;
  void abort_of_closing_channels();

  const engine::GuestMemory& memory_;
  StorageHost& host_;
  ControllerSettings settings_;

  // Bus side.
  StorageProtocol protocol_;
  std::map<abi::vmbus::ChannelId, OpenChannel> channels_;
  bool running_ = false;
  bool commands_came_ = false;  // since the initialization
  std::uint64_t malformed_packets_ = 0;

  // Disk side.
  StorageTarget target_;
  std::vector<std::unique_ptr<Request>> finished_;
  bool announcement_due_ = false;

  std::atomic<bool> scheduled_{false};
  std::atomic<bool> channel_is_closing_{false};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace bulkhead::vsp::storage
