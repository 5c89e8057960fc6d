// SPDX-License-Identifier: Apache-2.0
#include "vsp/storage/persistent_reservations.hpp"

namespace bulkhead::vsp::storage {
namespace {

enum class InAction : std::uint8_t { ReadKeys = 0, ReadReservation = 1, ReportCapabilities = 2, ReadFullStatus = 3 };
enum class OutAction : std::uint8_t {
  Register = 0,
  Reserve = 1,
  Release = 2,
  Clear = 3,
  Preempt = 4,
  PreemptAndAbort = 5,
  RegisterAndIgnoreExistingKey = 6,
};

constexpr std::uint8_t kActionMask = 0x1f;
/// Scope in the high half (0: the whole unit), type in the low one.
constexpr std::uint8_t kScopeMask = 0xf0;
/// Types 1, 3 and 5 to 8, as bits.
constexpr std::uint16_t kTypes = 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8;

bool is_type(std::uint8_t scope_and_type) {
  return (scope_and_type & kScopeMask) == 0 && (kTypes >> scope_and_type & 1) != 0;
}

}  // namespace

struct PersistentReservations::OutParameters {
  scsi::Big64 key;
  scsi::Big64 service_action_key;
  std::uint8_t obsolete[4];
  std::uint8_t flags;  // bit 0 APTPL, bit 2 ALL_TG_PT, bit 3 SPEC_I_PT
  std::uint8_t rest[3];
};

ScsiResult PersistentReservations::reserve_in(const ScsiCommand& command) const {
  std::vector<std::uint8_t> data;
  append(data, scsi::Big32(generation_));
  switch (InAction{static_cast<std::uint8_t>(command.cdb[1] & kActionMask)}) {
    case InAction::ReadKeys:
      append(data, scsi::Big32(key_ != 0 ? 8 : 0));
      if (key_ != 0) append(data, scsi::Big64(key_));
      break;
    case InAction::ReadReservation:
      append(data, scsi::Big32(type_ != 0 ? 16 : 0));
      if (type_ != 0) {
        append(data, scsi::Big64(key_));
        append(data, std::array<std::uint8_t, 8>{0, 0, 0, 0, 0, type_, 0, 0});
      }
      break;
    case InAction::ReportCapabilities:
      // Length 8; nothing optional; the mask of types is valid (TMV), and says the six of kTypes.
      data = {0, 8, 0, 0x80, 0xea, 0x01, 0, 0};
      break;
    case InAction::ReadFullStatus: data = full_status(); break;
    default: return ScsiResult::failed(scsi::sense::kInvalidFieldInCdb);
  }
  return answer(command, data, command.number<std::uint16_t>(7));
}

std::vector<std::uint8_t> PersistentReservations::full_status() const {
  std::vector<std::uint8_t> data;
  append(data, scsi::Big32(generation_));
  append(data, scsi::Big32(key_ != 0 ? 24 : 0));
  if (key_ != 0) {
    append(data, scsi::Big64(key_));
    append(data, std::uint32_t{0});
    append(data, std::array<std::uint8_t, 2>{static_cast<std::uint8_t>(type_ != 0 ? 1 : 0), type_});
    append(data, std::uint32_t{0});
    append(data, scsi::Big16(1));  // the relative target port
    append(data, scsi::Big32(0));  // there is no name for a port of this transport
  }
  return data;
}

ScsiResult PersistentReservations::reserve_out(const ScsiCommand& command) {
  OutParameters parameters;
  std::array<std::uint8_t, sizeof parameters> bytes{};
  if (command.number<std::uint32_t>(5) != sizeof parameters || command.copy_out(bytes) != sizeof parameters) {
    return ScsiResult::failed(scsi::sense::kParameterListLengthError);
  }
  std::memcpy(&parameters, bytes.data(), sizeof parameters);
  if ((parameters.flags & (1 << 0 | 1 << 3)) != 0) {
    return ScsiResult::failed(scsi::sense::kInvalidFieldInParameterList);
  }
  const OutAction action{static_cast<std::uint8_t>(command.cdb[1] & kActionMask)};
  if (action == OutAction::Register) return register_key(parameters, false);
  if (action == OutAction::RegisterAndIgnoreExistingKey) return register_key(parameters, true);
  // All others are for who is registered and knows the key.
  if (key_ == 0 || parameters.key != key_) return ScsiResult::conflict();
  switch (action) {
    case OutAction::Reserve: return reserve(command.cdb[2]);
    case OutAction::Release: return release(command.cdb[2]);
    case OutAction::Clear:
      key_ = 0;
      type_ = 0;
      ++generation_;
      return ScsiResult::good(sizeof parameters);
    case OutAction::Preempt:
    case OutAction::PreemptAndAbort: return preempt(parameters, command.cdb[2]);
    default: return ScsiResult::failed(scsi::sense::kInvalidFieldInCdb);
  }
}

ScsiResult PersistentReservations::register_key(const OutParameters& parameters, bool ignore_existing) {
  if (!ignore_existing && parameters.key != key_) return ScsiResult::conflict();
  key_ = parameters.service_action_key;
  if (key_ == 0) type_ = 0;
  ++generation_;
  return ScsiResult::good(sizeof parameters);
}

ScsiResult PersistentReservations::reserve(std::uint8_t scope_and_type) {
  if (!is_type(scope_and_type)) return ScsiResult::failed(scsi::sense::kInvalidFieldInCdb);
  if (type_ != 0 && type_ != scope_and_type) return ScsiResult::conflict();
  type_ = scope_and_type;
  return ScsiResult::good(sizeof(OutParameters));
}

ScsiResult PersistentReservations::release(std::uint8_t scope_and_type) {
  if (type_ != 0 && type_ != scope_and_type) {
    return ScsiResult::failed(scsi::sense::kInvalidReleaseOfPersistentReservation);
  }
  type_ = 0;
  return ScsiResult::good(sizeof(OutParameters));
}

ScsiResult PersistentReservations::preempt(const OutParameters& parameters, std::uint8_t scope_and_type) {
  if (parameters.service_action_key == 0) return ScsiResult::failed(scsi::sense::kInvalidFieldInParameterList);
  // Nobody else is registered, so the only key that can be preempted is the guest's own.
  if (parameters.service_action_key != key_) return ScsiResult::conflict();
  if (type_ != 0) {
    if (!is_type(scope_and_type)) return ScsiResult::failed(scsi::sense::kInvalidFieldInCdb);
    type_ = scope_and_type;
  }
  ++generation_;
  return ScsiResult::good(sizeof parameters);
}

void PersistentReservations::save(state::SavedUnit& unit) const {
  unit.number("reservation-key", key_);
  unit.number("reservation-type", type_);
  unit.number("reservation-generation", generation_);
}

void PersistentReservations::restore(state::SavedReader& reader) {
  key_ = reader.number("reservation-key");
  type_ = static_cast<std::uint8_t>(reader.number("reservation-type", 8));
  generation_ = static_cast<std::uint32_t>(reader.number("reservation-generation", UINT32_MAX));
}

void PersistentReservations::inspect(state::Inspection& node) const {
  if (key_ != 0) node.value("reservation-key", key_);
  if (type_ != 0) node.value("reservation-type", std::uint64_t{type_});
}

}  // namespace bulkhead::vsp::storage
