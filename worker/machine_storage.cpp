// SPDX-License-Identifier: Apache-2.0
#include "worker/machine_storage.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "disk/chain/chain.hpp"
#include "vsp/storage/disk_unit.hpp"
#include "vsp/storage/dvd_unit.hpp"
#include "worker/descriptor_store.hpp"
#include "worker/identity.hpp"

namespace bulkhead::worker {
namespace {

using vsp::storage::Limits;
using vsp::storage::StorageController;

/// Channel numbers are a part of what the machine is, and stay the same.
constexpr abi::vmbus::ChannelId kScsiChannel{1};
constexpr std::uint32_t kFirstIdeChannel = 8;

/// What guests open: one channel for each processor.
constexpr std::uint32_t kMostSubChannels = 63;

disk::Format format_of(const std::string& name) {
  if (name == "vhdx") return disk::Format::vhdx;
  return name == "vhd" ? disk::Format::vhd : disk::Format::raw;
}

}  // namespace

DiskAttachment::DiskAttachment(DiskOption disk) : option(std::move(disk)) {
  for (const auto& file : option.files) files.emplace_back(file.fd);
}

Result<std::unique_ptr<MachineStorage>> MachineStorage::create(boost::asio::io_context& event_loop,
                                                               std::mutex& machine_lock,
                                                               const engine::GuestMemory& memory, Settings settings,
                                                               DiskLoop::HostFull host_full) {
  auto loop = DiskLoop::create(event_loop, machine_lock, std::move(host_full));
  if (!loop) return std::unexpected(loop.error());
  return std::unique_ptr<MachineStorage>(new MachineStorage(memory, std::move(settings), std::move(*loop)));
}

MachineStorage::MachineStorage(const engine::GuestMemory& memory, Settings settings, std::unique_ptr<DiskLoop> loop)
    : memory_(memory), settings_(std::move(settings)), loop_(std::move(loop)) {
  vsp::storage::ControllerSettings scsi;
  scsi.name = "scsi0";
  scsi.instance = to_wire(device_identity(settings_.machine, scsi.name));
  scsi.maximum_sub_channels = static_cast<std::uint16_t>(std::min(settings_.vp_count - 1, kMostSubChannels));
  scsi_ = std::make_unique<StorageController>(memory_, *loop_, std::move(scsi));
}

MachineStorage::~MachineStorage() { static_cast<void>(close()); }

Result<std::unique_ptr<vsp::storage::LogicalUnit>> MachineStorage::open(DiskAttachment disk, std::string_view place) {
  const auto fallback = device_identity(settings_.machine, place);
  const bool dvd = disk.option.kind == "dvd";
  if (disk.files.empty()) return std::make_unique<vsp::storage::DvdUnit>(nullptr, fallback);
  std::vector<DescriptorStore::Entry> entries;
  entries.reserve(disk.files.size());
  for (std::size_t index = 0; index < disk.files.size(); ++index) {
    entries.push_back({std::move(disk.files[index]), disk.option.files[index].path});
  }
  DescriptorStore store(loop_->ring(), std::move(entries));
  const bool read_only = disk.option.read_only || dvd;
  disk::OpenOptions options;
  options.access = read_only ? disk::ImageStore::Access::read : disk::ImageStore::Access::write;
  options.format = format_of(disk.option.format);
  const std::string path = disk.option.files.front().path;
  auto image = disk::run(disk::open_disk(store, path, options), [this] { loop_->ring().wait(); });
  if (!image) return std::unexpected(image.error());
  const auto& properties = (*image)->properties();
  if (properties.size < vsp::storage::DvdUnit::kSectorSize) return fail(fmt::format("'{}' is too small", path));
  if (dvd) return std::make_unique<vsp::storage::DvdUnit>(std::move(*image), fallback);
  const auto identity = properties.identity.is_zero() ? fallback : properties.identity;
  return std::make_unique<vsp::storage::DiskUnit>(std::move(*image), identity, read_only);
}

Result<std::uint8_t> MachineStorage::attach(DiskAttachment disk) {
  return disk.option.bus == "ide" ? attach_to_ide(std::move(disk)) : attach_to_scsi(std::move(disk));
}

Result<std::uint8_t> MachineStorage::attach_to_scsi(DiskAttachment disk) {
  std::uint8_t number = disk.option.number.value_or(0);
  if (!disk.option.number) {
    while (number < StorageController::kMaximumUnits && scsi_->find(number) != nullptr) ++number;
  }
  if (number >= StorageController::kMaximumUnits) return fail("the SCSI controller has no room for another disk");
  if (scsi_->find(number) != nullptr) return fail(fmt::format("there is a disk {} on the SCSI controller", number));
  const Limits limits{.operations_per_second = disk.option.iops, .bytes_per_second = disk.option.bps};
  auto unit = open(std::move(disk), fmt::format("scsi0 {}", number));
  if (!unit) return std::unexpected(unit.error());
  if (auto attached = scsi_->attach(number, std::move(*unit), limits); !attached) {
    return std::unexpected(attached.error());
  }
  return number;
}

Result<std::uint8_t> MachineStorage::attach_to_ide(DiskAttachment disk) {
  if (connected_) return fail("IDE disks cannot be attached while the machine runs");
  std::uint8_t number = disk.option.number.value_or(0);
  if (!disk.option.number) {
    while (number < ide_.size() && ide_[number]) ++number;
  }
  if (number >= ide_.size()) return fail("the IDE controllers have no room for another disk");
  if (ide_[number]) return fail(fmt::format("there is an IDE disk {} already", number));
  const std::string name = fmt::format("ide{}", number);
  const Limits limits{.operations_per_second = disk.option.iops, .bytes_per_second = disk.option.bps};
  auto unit = open(std::move(disk), name);
  if (!unit) return std::unexpected(unit.error());
  vsp::storage::ControllerSettings settings;
  settings.name = name;
  settings.kind = vsp::storage::ControllerKind::IdeDisk;
  settings.ide_path = number / 2;
  settings.ide_target = number % 2;
  auto controller = std::make_unique<StorageController>(memory_, *loop_, std::move(settings));
  if (auto attached = controller->attach(0, std::move(*unit), limits); !attached) {
    return std::unexpected(attached.error());
  }
  ide_[number] = std::move(controller);
  return number;
}

Result<> MachineStorage::detach(std::uint8_t number, std::function<void(Result<>)> gone) {
  return scsi_->detach(number, std::move(gone));
}

template <typename Function>
Result<> MachineStorage::between_commands(bool running, Function function) {
  if (running) {
    std::lock_guard lock(loop_->bus_lock());
    scsi_->stop();
  }
  auto done = function();
  if (running) {
    std::lock_guard lock(loop_->bus_lock());
    scsi_->start();
  }
  return done;
}

Result<> MachineStorage::grow(std::uint8_t number, std::uint64_t size, bool running) {
  auto* unit = scsi_->find(number);
  if (unit == nullptr) return fail(fmt::format("there is no disk {}", number));
  auto* disk = dynamic_cast<vsp::storage::DiskUnit*>(unit);
  if (disk == nullptr) return fail(fmt::format("number {} is a DVD drive", number));
  auto grown = between_commands(running, [&] { return disk::run(disk->grow(size), [this] { loop_->ring().wait(); }); });
  if (!grown) return grown;
  return scsi_->capacity_changed(number);
}

Result<> MachineStorage::connect(vmbus::Bus& bus, UnitTree& units) {
  const auto connect_one = [&](StorageController& controller, abi::vmbus::ChannelId channel) -> Result<> {
    if (auto offered = bus.offer(controller.offer(), controller, channel); !offered) {
      return std::unexpected(offered.error());
    }
    return units.add(controller, {bus.name()});
  };
  if (auto connected = connect_one(*scsi_, kScsiChannel); !connected) return connected;
  for (std::uint32_t number = 0; number < ide_.size(); ++number) {
    if (!ide_[number]) continue;
    const abi::vmbus::ChannelId channel{kFirstIdeChannel + number};
    if (auto connected = connect_one(*ide_[number], channel); !connected) return connected;
  }
  connected_ = true;
  return {};
}

Result<> MachineStorage::close() {
  Result<> result = close(*scsi_);
  for (auto& controller : ide_) {
    if (!controller) continue;
    if (auto closed = close(*controller); !closed && result) result = closed;
  }
  return result;
}

Result<> MachineStorage::close(StorageController& controller) {
  Result<> result;
  unsigned left = 0;
  for (std::uint8_t number = 0; number < StorageController::kMaximumUnits; ++number) {
    if (controller.find(number) == nullptr) continue;
    ++left;
    auto detached = controller.detach(number, [&](const Result<>& closed) {
      --left;
      if (!closed && result) result = closed;
    });
    if (!detached) --left;
  }
  while (left > 0) loop_->wait_for_progress();
  return result;
}

}  // namespace bulkhead::worker
