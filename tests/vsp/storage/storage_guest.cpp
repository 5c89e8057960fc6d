// SPDX-License-Identifier: Apache-2.0
#include "tests/vsp/storage/storage_guest.hpp"

#include <algorithm>

namespace bulkhead::vsp::storage {

using namespace abi::vmbus;

StorageGuest::StorageGuest(ControllerSettings settings)
    : StorageDriver(fake_, [this] { host_.run(); }),
      controller_(std::make_unique<StorageController>(fake_.memory(), host_, std::move(settings))) {
  set_channel_id(*fake_.bus().offer(controller_->offer(), *controller_));
  controller_->start();
}

StorageGuest::~StorageGuest() {
  // As a machine does: nothing touches its memory any more when it goes.
  controller_->stop();
}

TestDisk& StorageGuest::add_disk(std::uint8_t lun, std::uint64_t size, Limits limits, bool read_only) {
  auto disk = std::make_unique<TestDisk>(size);
  TestDisk& kept = *disk;
  auto unit =
      std::make_unique<DiskUnit>(std::move(disk), disk::Guid::of("00112233-4455-6677-8899-aabbccddeeff"), read_only);
  if (!controller_->attach(lun, std::move(unit), limits)) std::abort();
  host_.run();
  return kept;
}

DvdUnit& StorageGuest::add_dvd(std::uint8_t lun, std::unique_ptr<disk::Disk> medium) {
  auto unit = std::make_unique<DvdUnit>(std::move(medium), disk::Guid::of("00112233-4455-6677-8899-aabbccddee00"));
  DvdUnit& kept = *unit;
  if (!controller_->attach(lun, std::move(unit))) std::abort();
  host_.run();
  return kept;
}

void StorageDriver::open() {
  guest_.connect();
  channel_ = guest_.open(id_, 8);
  if (!channel_) std::abort();
  if (pages_.empty()) pages_ = guest_.allocate(64);
  run_host_();
}

void StorageDriver::initialize(abi::storage::Version version) {
  open();
  ask(Operation::BeginInitialization);
  abi::storage::Packet packet{};
  packet.header.operation = Operation::QueryProtocolVersion;
  packet.version.version = version;
  ask(packet);
  if (version < abi::storage::Version::V5_1) packet_size_ = abi::storage::kPacketSizeBefore5_1;
  ask(Operation::QueryProperties);
  ask(Operation::EndInitialization);
  read({0x12, 0, 0, 0, 36, 0}, 36);
}

std::optional<Answer> StorageDriver::ask(abi::storage::Packet packet) {
  ++next_transaction_;
  transmit(packet, 0);
  signal_and_run();
  return take_answer();
}

void StorageDriver::transmit(const abi::storage::Packet& packet, std::uint32_t size) {
  Bytes payload = vmbus::bytes_of(packet);
  payload.resize(packet_size_);
  if (size == 0) {
    channel_->to_host.write(PacketType::InBand, kCompletionRequested, next_transaction_, {}, payload);
    return;
  }
  Bytes header = vmbus::bytes_of(GpaDirectHeader{.reserved = 0, .range_count = 1});
  const Bytes range = vmbus::bytes_of(GpaRange{.byte_count = size, .byte_offset = 0});
  header.insert(header.end(), range.begin(), range.end());
  for (std::size_t page = 0; page < (size + 4095) / 4096; ++page) {
    const Bytes number = vmbus::bytes_of(pages_[page]);
    header.insert(header.end(), number.begin(), number.end());
  }
  channel_->to_host.write(PacketType::GpaDirect, kCompletionRequested, next_transaction_, header, payload);
}

std::uint64_t StorageDriver::send(const Bytes& cdb, DataDirection direction, std::uint32_t size, std::uint8_t lun) {
  abi::storage::Packet packet{};
  packet.header.operation = Operation::ExecuteSrb;
  packet.scsi.length = static_cast<std::uint16_t>(packet_size_ - sizeof(abi::storage::PacketHeader));
  packet.scsi.lun = lun;
  packet.scsi.cdb_length = static_cast<std::uint8_t>(cdb.size());
  packet.scsi.sense_length = abi::storage::kMaximumSenseSize;
  packet.scsi.direction = direction;
  packet.scsi.transfer_length = size;
  std::ranges::copy(cdb, packet.scsi.payload);
  ++next_transaction_;
  transmit(packet, size);
  signal_and_run();
  return next_transaction_;
}

std::optional<Answer> StorageDriver::execute(const Bytes& cdb, DataDirection direction, std::uint32_t size,
                                             std::uint8_t lun) {
  send(cdb, direction, size, lun);
  return take_answer();
}

std::optional<Answer> StorageDriver::write(const Bytes& cdb, const Bytes& content, std::uint8_t lun) {
  set_data(content);
  return execute(cdb, DataDirection::ToDevice, static_cast<std::uint32_t>(content.size()), lun);
}

std::optional<Answer> StorageDriver::take_answer() {
  auto packet = channel_->from_host.read();
  if (!packet || packet->descriptor.type != PacketType::Completion) return std::nullopt;
  return Answer{.transaction = packet->descriptor.transaction,
                .size = packet->payload.size(),
                .packet = vmbus::part_of<abi::storage::Packet>(packet->payload)};
}

std::optional<abi::storage::Packet> StorageDriver::take_announcement() {
  auto packet = channel_->from_host.read();
  if (!packet || packet->descriptor.type != PacketType::InBand) return std::nullopt;
  return vmbus::part_of<abi::storage::Packet>(packet->payload);
}

Bytes StorageDriver::data(std::size_t size) {
  Bytes content;
  for (std::size_t page = 0; content.size() < size; ++page) {
    const auto bytes = *guest_.memory().at(pages_[page] * 4096, std::min<std::size_t>(4096, size - content.size()));
    content.insert(content.end(), bytes.begin(), bytes.end());
  }
  return content;
}

void StorageDriver::set_data(const Bytes& content) {
  for (std::size_t done = 0; done < content.size(); done += 4096) {
    const std::size_t count = std::min<std::size_t>(4096, content.size() - done);
    std::copy_n(content.begin() + static_cast<std::ptrdiff_t>(done), count,
                guest_.memory().at(pages_[done / 4096] * 4096, count)->begin());
  }
}

Bytes read_10(std::uint32_t block, std::uint16_t count) {
  return {0x28,
          0,
          static_cast<std::uint8_t>(block >> 24),
          static_cast<std::uint8_t>(block >> 16),
          static_cast<std::uint8_t>(block >> 8),
          static_cast<std::uint8_t>(block),
          0,
          static_cast<std::uint8_t>(count >> 8),
          static_cast<std::uint8_t>(count),
          0};
}

Bytes write_10(std::uint32_t block, std::uint16_t count, bool force_unit_access) {
  Bytes cdb = read_10(block, count);
  cdb[0] = 0x2a;
  if (force_unit_access) cdb[1] = 0x08;
  return cdb;
}

}  // namespace bulkhead::vsp::storage
