// SPDX-License-Identifier: Apache-2.0
//
// A guest's storage driver for tests: it opens a controller's channel, comes to terms with it and sends SCSI commands,
// over the fake guest's rings and memory. Written after abi/storage.hpp alone.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "abi/storage.hpp"
#include "tests/vmbus/fake_guest.hpp"
#include "tests/vsp/storage/test_disk.hpp"
#include "vsp/storage/disk_unit.hpp"
#include "vsp/storage/dvd_unit.hpp"
#include "vsp/storage/storage_controller.hpp"

namespace bulkhead::vsp::storage {

using abi::storage::DataDirection;
using abi::storage::Operation;
using abi::storage::SrbStatus;
using vmbus::Bytes;
using NtStatus = abi::storage::Status;

/// A completion of the host.
struct Answer {
  std::uint64_t transaction = 0;
  std::size_t size = 0;  // of the packet
  abi::storage::Packet packet = {};

  NtStatus status() const { return packet.header.status; }
  SrbStatus srb() const { return SrbStatus{static_cast<std::uint8_t>(packet.scsi.srb_status & 0x3f)}; }
  bool has_sense() const { return (packet.scsi.srb_status & abi::storage::kAutosenseValid) != 0; }
  /// Sense key, code and qualifier as one number: 0x052000 is "illegal request, invalid operation code".
  std::uint32_t sense() const {
    const auto& data = packet.scsi.payload;
    return static_cast<std::uint32_t>(data[2] << 16 | data[12] << 8 | data[13]);
  }
};

/// The driver: speaks to the controller at one channel of a fake guest's bus.
class StorageDriver {
 public:
  /// `run_host` lets the host do all that it has to do now.
  StorageDriver(vmbus::FakeGuest& guest, std::function<void()> run_host)
      : guest_(guest), run_host_(std::move(run_host)) {}

  /// Connects and opens the primary channel.
  void open();
  /// open(), the whole initialization, and a first INQUIRY, after which the host may speak by itself.
  void initialize(abi::storage::Version version = abi::storage::Version::V6_2);

  /// Sends a packet that is not a command, and gives the answer.
  std::optional<Answer> ask(abi::storage::Packet packet);
  std::optional<Answer> ask(Operation operation) {
    abi::storage::Packet packet{};
    packet.header.operation = operation;
    return ask(packet);
  }

  /// Sends a command with `size` bytes of guest memory and does not wait. Gives the transaction.
  std::uint64_t send(const Bytes& cdb, DataDirection direction = DataDirection::None, std::uint32_t size = 0,
                     std::uint8_t lun = 0);
  /// Sends a command and gives its answer; nothing if there is none yet.
  std::optional<Answer> execute(const Bytes& cdb, DataDirection direction = DataDirection::None, std::uint32_t size = 0,
                                std::uint8_t lun = 0);
  std::optional<Answer> read(const Bytes& cdb, std::uint32_t size, std::uint8_t lun = 0) {
    return execute(cdb, DataDirection::FromDevice, size, lun);
  }
  std::optional<Answer> write(const Bytes& cdb, const Bytes& content, std::uint8_t lun = 0);

  /// The next completion, if there is one.
  std::optional<Answer> take_answer();
  /// The next packet that the host sent by itself, if there is one.
  std::optional<abi::storage::Packet> take_announcement();

  /// The guest memory that goes with the commands.
  Bytes data(std::size_t size);
  void set_data(const Bytes& content);

  vmbus::GuestChannel& channel() { return *channel_; }
  abi::vmbus::ChannelId channel_id() const { return id_; }
  void set_channel_id(abi::vmbus::ChannelId id) { id_ = id; }
  void signal_and_run() {
    guest_.signal(id_);
    run_host_();
  }

 private:
  void transmit(const abi::storage::Packet& packet, std::uint32_t size);

  vmbus::FakeGuest& guest_;
  std::function<void()> run_host_;
  abi::vmbus::ChannelId id_{1};
  std::optional<vmbus::GuestChannel> channel_;
  std::vector<std::uint64_t> pages_;
  std::uint64_t next_transaction_ = 0x1000;
  std::size_t packet_size_ = sizeof(abi::storage::Packet);
};

/// What is around the driver; made before it.
struct StorageGuestParts {
  vmbus::FakeGuest fake_{4};
  TestHost host_;
};

/// A guest with one controller, whose disks are the test's.
class StorageGuest : private StorageGuestParts, public StorageDriver {
 public:
  explicit StorageGuest(ControllerSettings settings = {
                            .name = "scsi0",
                            .instance = abi::Guid::of("11112222-3333-4444-5555-666677778888"),
                            .maximum_sub_channels = 3});
  ~StorageGuest();

  vmbus::FakeGuest& fake() { return fake_; }
  TestHost& host() { return host_; }
  StorageController& controller() { return *controller_; }

  /// A disk of that many bytes at `lun`; the test keeps a pointer to look at it.
  TestDisk& add_disk(std::uint8_t lun = 0, std::uint64_t size = 1 << 20, Limits limits = {}, bool read_only = false);
  DvdUnit& add_dvd(std::uint8_t lun, std::unique_ptr<disk::Disk> medium);

 private:
  std::unique_ptr<StorageController> controller_;
};

/// READ (10) and WRITE (10).
Bytes read_10(std::uint32_t block, std::uint16_t count);
Bytes write_10(std::uint32_t block, std::uint16_t count, bool force_unit_access = false);

}  // namespace bulkhead::vsp::storage
