// SPDX-License-Identifier: Apache-2.0
#include "vsp/storage/dvd_unit.hpp"

#include <algorithm>

#include "vsp/storage/mode_pages.hpp"

namespace bulkhead::vsp::storage {
namespace {

using scsi::Opcode;
namespace sense = scsi::sense;

constexpr std::uint16_t kCdRom = 0x0008;
constexpr std::uint16_t kDvdRom = 0x0010;
/// What is larger is a DVD: 99 minutes of 75 frames a second, more than a CD has.
constexpr std::uint64_t kLargestCd = std::uint64_t{99} * 60 * 75;
constexpr std::uint8_t kLeadOutTrack = 0xaa;
/// Between the beginning of a CD in minutes, seconds and frames and its block 0.
constexpr std::uint32_t kFramesBeforeFirst = 150;

/// An address of a CD: reserved byte, then a block number or minutes, seconds and frames.
std::array<std::uint8_t, 4> address(std::uint32_t block, bool minutes) {
  if (minutes) {
    block += kFramesBeforeFirst;
    return {0, static_cast<std::uint8_t>(block / 75 / 60), static_cast<std::uint8_t>(block / 75 % 60),
            static_cast<std::uint8_t>(block % 75)};
  }
  return {static_cast<std::uint8_t>(block >> 24), static_cast<std::uint8_t>(block >> 16),
          static_cast<std::uint8_t>(block >> 8), static_cast<std::uint8_t>(block)};
}

/// One feature for GET CONFIGURATION.
struct Feature {
  std::uint16_t code;
  bool persistent;
  bool current;
  std::vector<std::uint8_t> data;
};

}  // namespace

DvdUnit::DvdUnit(std::unique_ptr<disk::Disk> medium, disk::Guid identity)
    : LogicalUnit({.device_type = scsi::kCdDvd, .removable = true, .product = "Virtual DVD-ROM", .identity = identity}),
      medium_(std::move(medium)) {}

const std::string& DvdUnit::name() const {
  static const std::string empty = "(no disc)";
  return medium_ ? medium_->name() : empty;
}

disk::Task<Result<>> DvdUnit::close() {
  if (!medium_) co_return Result<>();
  co_return co_await medium_->close();
}

Result<> DvdUnit::insert(std::unique_ptr<disk::Disk> medium) {
  if (medium_) return fail("there is a disc in the drive");
  medium_ = std::move(medium);
  event_ = MediaEvent::NewMedia;
  raise(sense::kMediumMayHaveChanged);
  return {};
}

void DvdUnit::eject() {
  removal_prevented_ = false;
  if (!medium_) return;
  event_ = MediaEvent::MediaRemoval;
  ejected_.push_back(std::move(medium_));
  if (reads_under_way_ == 0) ejected_.clear();
}

bool DvdUnit::is_cd() const { return block_count() <= kLargestCd; }

std::uint16_t DvdUnit::profile() const {
  if (!medium_) return 0;
  return is_cd() ? kCdRom : kDvdRom;
}

std::uint64_t DvdUnit::bytes_moved(const ScsiCommand& command) const {
  if (command.opcode() == Opcode::Read10) return std::uint64_t{command.number<std::uint16_t>(7)} * kSectorSize;
  if (command.opcode() == Opcode::Read12) return std::uint64_t{command.number<std::uint32_t>(6)} * kSectorSize;
  return 0;
}

disk::Task<ScsiResult> DvdUnit::perform(const ScsiCommand& command) {
  switch (command.opcode()) {
    case Opcode::Read10:
      co_return co_await read(command, command.number<std::uint32_t>(2), command.number<std::uint16_t>(7));
    case Opcode::Read12:
      co_return co_await read(command, command.number<std::uint32_t>(2), command.number<std::uint32_t>(6));
    case Opcode::TestUnitReady:
    case Opcode::ReadCapacity10:
    case Opcode::ReadToc:
    case Opcode::ReadDiscInformation:
    case Opcode::ReadTrackInformation:
    case Opcode::ReadDvdStructure:
      co_return medium_ ? answer_with_medium(command) : ScsiResult::failed(sense::kMediumNotPresent);
    default: co_return answer_without_medium(command);
  }
}

disk::Task<ScsiResult> DvdUnit::read(const ScsiCommand& command, std::uint64_t first, std::uint64_t count) {
  if (!medium_) co_return ScsiResult::failed(sense::kMediumNotPresent);
  if (first > block_count() || count > block_count() - first) co_return ScsiResult::failed(sense::kAddressOutOfRange);
  const std::uint64_t size = count * kSectorSize;
  if (size == 0) co_return ScsiResult::good();
  if (!command.reads() || size > command.data_size) co_return ScsiResult::malformed();
  const auto window = disk::slice(command.data, 0, size);
  ++reads_under_way_;
  auto done = co_await medium_->read(first * kSectorSize, window);
  if (--reads_under_way_ == 0) ejected_.clear();
  if (!done) co_return ScsiResult::failed(sense::kUnrecoveredReadError, done.error().message());
  co_return ScsiResult::good(size);
}

ScsiResult DvdUnit::answer_with_medium(const ScsiCommand& command) const {
  switch (command.opcode()) {
    case Opcode::TestUnitReady: return ScsiResult::good();
    case Opcode::ReadCapacity10: {
      std::vector<std::uint8_t> data;
      append(data, scsi::Big32(static_cast<std::uint32_t>(std::min<std::uint64_t>(block_count() - 1, UINT32_MAX))));
      append(data, scsi::Big32(kSectorSize));
      return answer(command, data, data.size());
    }
    case Opcode::ReadToc: return read_toc(command);
    case Opcode::ReadDiscInformation: return read_disc_information(command);
    case Opcode::ReadTrackInformation: return read_track_information(command);
    case Opcode::ReadDvdStructure: return read_dvd_structure(command);
    default: return ScsiResult::failed(sense::kInvalidOperationCode);
  }
}

ScsiResult DvdUnit::answer_without_medium(const ScsiCommand& command) {
  switch (command.opcode()) {
    case Opcode::GetConfiguration: return get_configuration(command);
    case Opcode::GetEventStatusNotification: return get_event_status(command);
    case Opcode::StartStopUnit: return start_stop(command);
    case Opcode::PreventAllowMediumRemoval: removal_prevented_ = (command.cdb[4] & 1) != 0; return ScsiResult::good();
    case Opcode::MechanismStatus: {
      const std::array<std::uint8_t, 8> idle = {};  // one slot, no changer, closed
      return answer(command, idle, command.number<std::uint16_t>(8));
    }
    case Opcode::ModeSense6:
    case Opcode::ModeSense10: {
      // Read error recovery: defaults. Capabilities: reads CD-R, CD-RW, DVD-ROM; a tray that can be locked and ejects.
      const std::array<ModePage, 2> pages = {
          ModePage{0x01, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
          ModePage{0x2a, {0x0b, 0, 0x70, 0x29, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}};
      return mode_sense(command, {}, pages);
    }
    default: return ScsiResult::failed(sense::kInvalidOperationCode);
  }
}

/// One data track in one session: formats 0 (tracks) and 1 (sessions), MMC-6 6.25.
ScsiResult DvdUnit::read_toc(const ScsiCommand& command) const {
  const bool minutes = (command.cdb[1] & 0x02) != 0;
  const std::uint8_t format = command.cdb[2] & 0x0f, first_track = command.cdb[6];
  constexpr std::uint8_t kDataTrack = 0x14;
  const auto end = static_cast<std::uint32_t>(std::min<std::uint64_t>(block_count(), UINT32_MAX));
  std::vector<std::uint8_t> data = {0, 0, 1, 1};
  const auto add_track = [&](std::uint8_t number, std::uint32_t block) {
    append(data, std::array<std::uint8_t, 4>{0, kDataTrack, number, 0});
    append(data, address(block, minutes));
  };
  if (format == 0) {
    if (first_track > 1 && first_track != kLeadOutTrack) return ScsiResult::failed(sense::kInvalidFieldInCdb);
    if (first_track <= 1) add_track(1, 0);
    add_track(kLeadOutTrack, end);
  } else if (format == 1) {
    add_track(1, 0);
  } else {
    return ScsiResult::failed(sense::kInvalidFieldInCdb);
  }
  data[1] = static_cast<std::uint8_t>(data.size() - 2);
  return answer(command, data, command.number<std::uint16_t>(7));
}

ScsiResult DvdUnit::get_configuration(const ScsiCommand& command) const {
  const std::uint8_t wanted = command.cdb[1] & 0x03;
  const auto starting = command.number<std::uint16_t>(2);
  const bool cd = profile() == kCdRom, dvd = profile() == kDvdRom;
  const std::array<Feature, 9> features = {
      Feature{0x0000, true, true, {0, kDvdRom, dvd, 0, 0, kCdRom, cd, 0}},      // profiles
      Feature{0x0001, true, true, {0, 0, 0, 1, 1, 0, 0, 0}},                    // core: SCSI family, device busy event
      Feature{0x0002, true, true, {0x02, 0, 0, 0}},                             // morphing: operational change event
      Feature{0x0003, true, true, {0x29, 0, 0, 0}},                             // removable: tray, ejects, locks
      Feature{0x0010, false, medium_ != nullptr, {0, 0, 0x08, 0, 0, 1, 0, 0}},  // randomly readable, 2048 bytes
      Feature{0x001e, false, cd, {0, 0, 0, 0}},                                 // CD read
      Feature{0x001f, false, dvd, {0, 0, 0, 0}},                                // DVD read
      Feature{0x0100, true, true, {}},                                          // power management
      Feature{0x0105, true, true, {0, 0, 0, 0}}};                               // time-out
  std::vector<std::uint8_t> body;
  for (const auto& feature : features) {
    const bool chosen =
        wanted == 2 ? feature.code == starting : feature.code >= starting && (wanted == 0 || feature.current);
    if (!chosen) continue;
    append(body, scsi::Big16(feature.code));
    body.push_back(static_cast<std::uint8_t>((feature.persistent ? 2 : 0) | (feature.current ? 1 : 0)));
    body.push_back(static_cast<std::uint8_t>(feature.data.size()));
    body.insert(body.end(), feature.data.begin(), feature.data.end());
  }
  if (wanted == 3) return ScsiResult::failed(sense::kInvalidFieldInCdb);
  std::vector<std::uint8_t> data;
  append(data, scsi::Big32(static_cast<std::uint32_t>(body.size() + 4)));
  append(data, scsi::Big16(0));
  append(data, scsi::Big16(profile()));
  data.insert(data.end(), body.begin(), body.end());
  return answer(command, data, command.number<std::uint16_t>(7));
}

ScsiResult DvdUnit::get_event_status(const ScsiCommand& command) {
  constexpr std::uint8_t kPolled = 1, kNoEventAvailable = 0x80, kMediaClass = 4;
  if ((command.cdb[1] & kPolled) == 0) return ScsiResult::failed(sense::kInvalidFieldInCdb);
  constexpr std::uint8_t kSupported = 1 << kMediaClass;
  if ((command.cdb[4] & kSupported) == 0) {
    const std::array<std::uint8_t, 4> none = {0, 2, kNoEventAvailable, kSupported};
    return answer(command, none, command.number<std::uint16_t>(7));
  }
  // An event is told once.
  const auto event = std::exchange(event_, MediaEvent::None);
  const std::array<std::uint8_t, 8> data = {
      0, 6, kMediaClass, kSupported, static_cast<std::uint8_t>(event), static_cast<std::uint8_t>(medium_ ? 2 : 0),
      0, 0};
  return answer(command, data, command.number<std::uint16_t>(7));
}

ScsiResult DvdUnit::read_disc_information(const ScsiCommand& command) const {
  if ((command.cdb[1] & 0x07) != 0) return ScsiResult::failed(sense::kInvalidFieldInCdb);
  std::vector<std::uint8_t> data(34);
  data[1] = 32;
  data[2] = 0x0e;  // complete disc, last session complete
  data[3] = data[4] = data[5] = data[6] = 1;
  data[7] = 0x20;  // for unrestricted use
  std::fill(data.begin() + 16, data.begin() + 24, std::uint8_t{0xff});
  return answer(command, data, command.number<std::uint16_t>(7));
}

/// The one track, asked for by a block of it, by its number or by its session's: MMC-6 6.27.
ScsiResult DvdUnit::read_track_information(const ScsiCommand& command) const {
  constexpr std::uint8_t kByBlock = 0, kDataTrack = 4, kDataMode = 1;
  const std::uint8_t by = command.cdb[1] & 0x03;
  const auto which = command.number<std::uint32_t>(2);
  const bool there = by == kByBlock ? which < block_count() : by != 3 && which == 1;
  if (!there) return ScsiResult::failed(sense::kInvalidFieldInCdb);
  std::vector<std::uint8_t> data(36);
  data[1] = 34;
  data[2] = data[3] = 1;  // track and session
  data[5] = kDataTrack;
  data[6] = kDataMode;
  const auto size = address(static_cast<std::uint32_t>(std::min<std::uint64_t>(block_count(), UINT32_MAX)), false);
  std::ranges::copy(size, data.begin() + 24);
  return answer(command, data, command.number<std::uint16_t>(7));
}

/// The physical format (0) of a single-layered DVD-ROM, MMC-6 6.22.
ScsiResult DvdUnit::read_dvd_structure(const ScsiCommand& command) const {
  const std::uint8_t format = command.cdb[7];
  if (is_cd() || format != 0 || command.cdb[6] != 0) return ScsiResult::failed(sense::kInvalidFieldInCdb);
  constexpr std::uint32_t kFirstSector = 0x30000;
  std::vector<std::uint8_t> data(4 + 2048);
  data[0] = 2050 >> 8;
  data[1] = 2050 & 0xff;
  data[4] = 0x01;  // DVD-ROM, version 1
  data[5] = 0x0f;  // 120 mm, no maximum rate
  data[6] = 0x01;  // embossed, one layer
  const auto put = [&](std::size_t at, std::uint32_t sector) {
    const auto bytes = address(sector, false);
    std::ranges::copy(bytes, data.begin() + static_cast<std::ptrdiff_t>(at));
  };
  put(8, kFirstSector);
  put(12, static_cast<std::uint32_t>(kFirstSector + block_count() - 1));
  return answer(command, data, command.number<std::uint16_t>(8));
}

ScsiResult DvdUnit::start_stop(const ScsiCommand& command) {
  constexpr std::uint8_t kStart = 0x01, kLoadEject = 0x02;
  const bool ejects = (command.cdb[4] & (kStart | kLoadEject)) == kLoadEject;
  if (!ejects) return ScsiResult::good();
  if (removal_prevented_) return ScsiResult::failed(sense::kMediumRemovalPrevented);
  eject();
  return ScsiResult::good();
}

void DvdUnit::on_save(state::SavedUnit& unit) const {
  unit.number("removal-prevented", removal_prevented_);
  unit.number("media-event", static_cast<std::uint64_t>(event_));
}

void DvdUnit::on_restore(state::SavedReader& reader) {
  removal_prevented_ = reader.flag("removal-prevented");
  event_ = static_cast<MediaEvent>(reader.number("media-event", 3));
}

void DvdUnit::on_inspect(state::Inspection& node) const {
  node.value("loaded", is_loaded());
  node.value("removal-prevented", removal_prevented_);
}

}  // namespace bulkhead::vsp::storage
