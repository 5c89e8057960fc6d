// SPDX-License-Identifier: Apache-2.0
//
// The storage protocol ("VSTOR") that a guest's storvsc driver speaks on a VMBus channel: SCSI commands, carried whole.
//
//   guest                                     host
//     BEGIN_INITIALIZATION        ─────────▶
//     QUERY_PROTOCOL_VERSION      ─────────▶       again with a lower one until the status is success
//     QUERY_PROPERTIES            ─────────▶
//     END_INITIALIZATION          ─────────▶
//     CREATE_SUB_CHANNELS         ─────────▶       (before or after the end of the initialization)
//     EXECUTE_SRB, RESET_...      ─────────▶       a GPA-direct packet where there is data, else an in-band one
//                                 ◀─────────  COMPLETE_IO, the completion of each of the above, as long as its request
//                                 ◀─────────  ENUMERATE_BUS, by itself: disks came or went
//
// A packet is 64 bytes; before version 5.1 it is 48, without the last 16 of the SCSI request.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi/guid.hpp"

namespace bulkhead::abi::storage {

/// The classes of channels, as offered.
inline constexpr Guid kScsiInterface = Guid::of("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f");
inline constexpr Guid kIdeInterface = Guid::of("32412632-86cb-44a2-9b5c-50d1417354f5");

/// Of an IDE accelerator channel's offer: which disk of the emulated controller it stands for.
struct IdeOfferData {
  std::uint16_t reserved;
  std::uint8_t path;    // controller, 0 or 1
  std::uint8_t target;  // disk on it, 0 or 1
  std::uint32_t reserved2;
  std::uint32_t flags;
};
static_assert(sizeof(IdeOfferData) == 12 && offsetof(IdeOfferData, flags) == 8);
inline constexpr std::uint32_t kIdeOfferFlags = 2;

enum class Operation : std::uint32_t {
  CompleteIo = 1,
  RemoveDevice = 2,
  ExecuteSrb = 3,
  ResetLun = 4,
  ResetAdapter = 5,
  ResetBus = 6,
  BeginInitialization = 7,
  EndInitialization = 8,
  QueryProtocolVersion = 9,
  QueryProperties = 10,
  EnumerateBus = 11,
  FcHbaData = 12,
  CreateSubChannels = 13,
  EventNotification = 14,
};

/// Major in the high byte, minor in the low one.
enum class Version : std::uint16_t {
  V2_0 = 0x0200,
  V4_2 = 0x0402,
  V5_1 = 0x0501,
  V6_0 = 0x0600,
  V6_2 = 0x0602,
};

/// NTSTATUS values in PacketHeader::status.
enum class Status : std::uint32_t {
  Success = 0,
  BufferOverflow = 0x8000'0005,
  DeviceBusy = 0x8000'0011,
  Unsuccessful = 0xc000'0001,
  InvalidParameter = 0xc000'000d,
  InvalidDeviceRequest = 0xc000'0010,
  RevisionMismatch = 0xc000'0059,
  DeviceDoesNotExist = 0xc000'00c0,
  Cancelled = 0xc000'0120,
  InvalidDeviceState = 0xc000'0184,
  IoDeviceError = 0xc000'0185,
};

struct PacketHeader {
  Operation operation;
  std::uint32_t flags;  // bit 0: a completion is wanted
  Status status;        // of a completion
};
static_assert(sizeof(PacketHeader) == 12);

/// The SRB's own status, in the low 6 bits.
enum class SrbStatus : std::uint8_t {
  Pending = 0x00,
  Success = 0x01,
  Aborted = 0x02,
  Error = 0x04,
  Busy = 0x05,
  InvalidRequest = 0x06,
  NoDevice = 0x08,
  BusReset = 0x0e,
  DataOverrun = 0x12,
  InvalidLun = 0x20,
  InvalidTarget = 0x21,
};
inline constexpr std::uint8_t kAutosenseValid = 0x80;

enum class DataDirection : std::uint8_t { ToDevice = 0, FromDevice = 1, None = 2 };

inline constexpr std::size_t kMaximumCdbSize = 16;
inline constexpr std::size_t kMaximumSenseSize = 20;

/// EXECUTE_SRB and its completion.
struct ScsiRequest {
  std::uint16_t length;  // of this struct: 0x34, or 0x24 before version 5.1
  std::uint8_t srb_status;
  std::uint8_t scsi_status;
  std::uint8_t reserved;
  std::uint8_t path;
  std::uint8_t target;
  std::uint8_t lun;
  std::uint8_t cdb_length;
  std::uint8_t sense_length;  // room for sense data, then what is there
  DataDirection direction;
  std::uint8_t reserved2;
  std::uint32_t transfer_length;            // bytes wanted, then bytes done
  std::uint8_t payload[kMaximumSenseSize];  // the command, then the sense data
  // The rest is there from version 5.1 on.
  std::uint16_t reserved3;
  std::uint8_t queue_tag;
  std::uint8_t queue_action;
  std::uint32_t srb_flags;
  std::uint32_t timeout;  // seconds
  std::uint32_t queue_sort_key;
};
static_assert(sizeof(ScsiRequest) == 52 && offsetof(ScsiRequest, payload) == 16 &&
              offsetof(ScsiRequest, reserved3) == 36 && offsetof(ScsiRequest, queue_sort_key) == 48);

struct ProtocolVersion {
  Version version;
  std::uint16_t reserved;
};
static_assert(sizeof(ProtocolVersion) == 4);

inline constexpr std::uint32_t kSupportsSubChannels = 1;

struct ChannelProperties {
  std::uint32_t reserved;
  std::uint16_t maximum_sub_channels;
  std::uint16_t reserved2;
  std::uint32_t flags;
  std::uint32_t maximum_transfer;  // bytes of one request
  std::uint32_t reserved3[2];
};
static_assert(sizeof(ChannelProperties) == 24 && offsetof(ChannelProperties, maximum_transfer) == 12);

/// A whole packet. What the operation does not use is zero.
struct Packet {
  PacketHeader header;
  union {
    ScsiRequest scsi;
    ProtocolVersion version;
    ChannelProperties properties;
    std::uint16_t sub_channel_count;
  };
};
static_assert(sizeof(Packet) == 64 && offsetof(Packet, scsi) == 12);

/// Bytes of a packet before version 5.1.
inline constexpr std::size_t kPacketSizeBefore5_1 = 48;

}  // namespace bulkhead::abi::storage
