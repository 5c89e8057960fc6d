// SPDX-License-Identifier: Apache-2.0
//
// SCSI as it goes over the wire: operation codes, sense codes, and the layouts that more than one file needs. Names are
// those of SPC-4, SBC-3 and MMC-6. Numbers are big endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "disk/byte_order.hpp"

namespace bulkhead::vsp::storage::scsi {

using Big16 = disk::BigEndian<std::uint16_t>;
using Big32 = disk::BigEndian<std::uint32_t>;
using Big64 = disk::BigEndian<std::uint64_t>;

enum class Opcode : std::uint8_t {
  TestUnitReady = 0x00,
  RequestSense = 0x03,
  Read6 = 0x08,
  Write6 = 0x0a,
  Inquiry = 0x12,
  ModeSense6 = 0x1a,
  StartStopUnit = 0x1b,
  PreventAllowMediumRemoval = 0x1e,
  ReadCapacity10 = 0x25,
  Read10 = 0x28,
  Write10 = 0x2a,
  Verify10 = 0x2f,
  SynchronizeCache10 = 0x35,
  WriteSame10 = 0x41,
  Unmap = 0x42,
  ReadToc = 0x43,
  GetConfiguration = 0x46,
  GetEventStatusNotification = 0x4a,
  ReadDiscInformation = 0x51,
  ReadTrackInformation = 0x52,
  ModeSense10 = 0x5a,
  PersistentReserveIn = 0x5e,
  PersistentReserveOut = 0x5f,
  Read16 = 0x88,
  Write16 = 0x8a,
  Verify16 = 0x8f,
  SynchronizeCache16 = 0x91,
  WriteSame16 = 0x93,
  ServiceActionIn16 = 0x9e,
  ReportLuns = 0xa0,
  Read12 = 0xa8,
  Write12 = 0xaa,
  ReadDvdStructure = 0xad,
  MechanismStatus = 0xbd,
};

enum class Status : std::uint8_t { Good = 0x00, CheckCondition = 0x02, ReservationConflict = 0x18 };

enum class SenseKey : std::uint8_t {
  NoSense = 0x0,
  NotReady = 0x2,
  MediumError = 0x3,
  HardwareError = 0x4,
  IllegalRequest = 0x5,
  UnitAttention = 0x6,
  DataProtect = 0x7,
  AbortedCommand = 0xb,
};

/// A sense key with its additional sense code (high byte) and qualifier (low byte).
struct Sense {
  SenseKey key = SenseKey::NoSense;
  std::uint16_t code = 0;

  bool operator==(const Sense&) const = default;
};

namespace sense {
inline constexpr Sense kNone{};
inline constexpr Sense kInitializingCommandRequired{SenseKey::NotReady, 0x0402};
inline constexpr Sense kMediumNotPresent{SenseKey::NotReady, 0x3a00};
inline constexpr Sense kMediumNotPresentTrayOpen{SenseKey::NotReady, 0x3a02};
inline constexpr Sense kWriteError{SenseKey::MediumError, 0x0c00};
inline constexpr Sense kUnrecoveredReadError{SenseKey::MediumError, 0x1100};
inline constexpr Sense kParameterListLengthError{SenseKey::IllegalRequest, 0x1a00};
inline constexpr Sense kInvalidOperationCode{SenseKey::IllegalRequest, 0x2000};
inline constexpr Sense kAddressOutOfRange{SenseKey::IllegalRequest, 0x2100};
inline constexpr Sense kInvalidFieldInCdb{SenseKey::IllegalRequest, 0x2400};
inline constexpr Sense kInvalidFieldInParameterList{SenseKey::IllegalRequest, 0x2600};
inline constexpr Sense kInvalidReleaseOfPersistentReservation{SenseKey::IllegalRequest, 0x2604};
inline constexpr Sense kSavingParametersNotSupported{SenseKey::IllegalRequest, 0x3900};
inline constexpr Sense kMediumRemovalPrevented{SenseKey::IllegalRequest, 0x5302};
inline constexpr Sense kMediumMayHaveChanged{SenseKey::UnitAttention, 0x2800};
inline constexpr Sense kBusDeviceReset{SenseKey::UnitAttention, 0x2903};
inline constexpr Sense kCapacityChanged{SenseKey::UnitAttention, 0x2a09};
inline constexpr Sense kWriteProtected{SenseKey::DataProtect, 0x2700};
}  // namespace sense

/// Sense data in fixed format, SPC-4 4.5.3.
struct FixedSense {
  std::uint8_t response_code = 0x70;  // current error
  std::uint8_t obsolete = 0;
  std::uint8_t key = 0;
  std::uint8_t information[4] = {};
  std::uint8_t additional_length = 10;
  std::uint8_t command_specific[4] = {};
  Big16 code;
  std::uint8_t rest[4] = {};
};
static_assert(sizeof(FixedSense) == 18 && offsetof(FixedSense, code) == 12);

inline FixedSense fixed(Sense sense) {
  FixedSense data;
  data.key = static_cast<std::uint8_t>(sense.key);
  data.code = sense.code;
  return data;
}

/// Peripheral device types. kNoUnit: none is there, nor can be.
inline constexpr std::uint8_t kDirectAccess = 0x00;
inline constexpr std::uint8_t kCdDvd = 0x05;
inline constexpr std::uint8_t kNoUnit = 0x7f;

/// Standard INQUIRY data, SPC-4 6.6.2.
struct InquiryData {
  std::uint8_t peripheral = 0;
  std::uint8_t removable = 0;        // bit 7
  std::uint8_t version = 6;          // SPC-4
  std::uint8_t response_format = 2;  // with LUNs of the hierarchical form: bit 4
  std::uint8_t additional_length = 31;
  std::uint8_t flags[2] = {};
  std::uint8_t queuing = 2;  // commands are queued
  std::array<char, 8> vendor = {};
  std::array<char, 16> product = {};
  std::array<char, 4> revision = {};
};
static_assert(sizeof(InquiryData) == 36);

}  // namespace bulkhead::vsp::storage::scsi
