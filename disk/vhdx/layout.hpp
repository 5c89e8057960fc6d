// SPDX-License-Identifier: Apache-2.0
//
// What lies where in a VHDX file ([MS-VHDX] section 2). Everything after the first mebibyte is in whole mebibytes.
//
//     0        64K       128K      192K           256K          320K       1M
//     | file id | header 1 | header 2 | region table 1 | region table 2 | free | log, metadata, BAT, blocks, in any
//     order
//
// The BAT has one 8-byte entry for each payload block, and after each chunk of them one for the sector bitmap block
// that says which sectors of these payload blocks a differencing image holds itself.
#pragma once

#include <array>
#include <cstdint>

#include "disk/byte_order.hpp"
#include "disk/guid.hpp"

namespace bulkhead::disk::vhdx {

using U16 = LittleEndian<std::uint16_t>;
using U32 = LittleEndian<std::uint32_t>;
using U64 = LittleEndian<std::uint64_t>;

constexpr std::uint64_t kHeaderOffsets[2] = {64 * kKiB, 128 * kKiB};
constexpr std::uint64_t kRegionTableOffsets[2] = {192 * kKiB, 256 * kKiB};
constexpr std::uint64_t kRegionTableLength = 64 * kKiB;
constexpr std::uint64_t kAlignment = kMiB;
constexpr std::uint64_t kLargestDisk = 64 * kTiB;
constexpr std::uint64_t kSmallestBlock = kMiB;
constexpr std::uint64_t kLargestBlock = 256 * kMiB;

/// Section 2.2.1.
struct FileIdentifier {
  U64 signature;
  std::array<U16, 256> creator;
};
static_assert(sizeof(FileIdentifier) == 520);
constexpr std::uint64_t kFileSignature = 0x656c696678646876;  // "vhdxfile"

/// Section 2.2.2.
struct Header {
  U32 signature;
  U32 checksum;  // CRC-32C of the 4 KiB with this field zero
  U64 sequence_number;
  Guid file_write_guid;
  Guid data_write_guid;
  Guid log_guid;  // zero: the log is empty
  U16 log_version;
  U16 version;
  U32 log_length;
  U64 log_offset;
  std::array<std::uint8_t, 4016> reserved{};
};
static_assert(sizeof(Header) == 4096);
constexpr std::uint32_t kHeaderSignature = 0x64616568;  // "head"

/// Section 2.2.3.
struct RegionTableHeader {
  U32 signature;
  U32 checksum;  // of the 64 KiB
  U32 entry_count;
  U32 reserved;
};
static_assert(sizeof(RegionTableHeader) == 16);
struct RegionTableEntry {
  Guid guid;
  U64 file_offset;
  U32 length;
  U32 required;
};
static_assert(sizeof(RegionTableEntry) == 32);
constexpr std::uint32_t kRegionTableSignature = 0x69676572;  // "regi"
constexpr std::uint32_t kMostTableEntries = 2047;
constexpr Guid kBatRegion = Guid::of("2dc27766-f623-4200-9d64-115e9bfd4a08");
constexpr Guid kMetadataRegion = Guid::of("8b7ca206-4790-4b9a-b8fe-575f050f886e");

/// Section 2.3.1. A log entry: this header and the descriptors in the first sectors, then a sector for each data
/// descriptor.
struct LogEntryHeader {
  U32 signature;
  U32 checksum;  // of the whole entry
  U32 entry_length;
  U32 tail;  // where in the log the oldest entry begins that must be replayed
  U64 sequence_number;
  U32 descriptor_count;
  U32 reserved;
  Guid log_guid;
  U64 flushed_file_offset;  // how long the file certainly was when the entry was written
  U64 last_file_offset;     // how long it has to be after the replay
};
static_assert(sizeof(LogEntryHeader) == 64);
constexpr std::uint32_t kLogEntrySignature = 0x65676f6c;  // "loge"
constexpr std::uint64_t kLogSector = 4096;
struct LogDescriptor {
  U32 signature;
  U32 trailing_bytes;     // of a data descriptor; the last 4 bytes of the sector
  U64 leading_or_length;  // data: the sector's first 8 bytes; zero: how many bytes become zero
  U64 file_offset;
  U64 sequence_number;
};
static_assert(sizeof(LogDescriptor) == 32);
constexpr std::uint32_t kZeroDescriptorSignature = 0x6f72657a;  // "zero"
constexpr std::uint32_t kDataDescriptorSignature = 0x63736564;  // "desc"
struct LogDataSector {
  U32 signature;
  U32 sequence_high;
  std::array<std::byte, 4084> data;
  U32 sequence_low;
};
static_assert(sizeof(LogDataSector) == kLogSector);
constexpr std::uint32_t kLogDataSignature = 0x61746164;  // "data"

/// Section 2.5: the state in a BAT entry's low three bits; its bits 20-63 are the place in the file in mebibytes.
enum class PayloadState : std::uint8_t {
  not_present = 0,
  undefined = 1,
  zero = 2,
  unmapped = 3,
  fully_present = 6,
  partially_present = 7,
};
enum class BitmapState : std::uint8_t { not_present = 0, present = 6 };

/// Section 2.6.1.
struct MetadataTableHeader {
  U64 signature;
  U16 reserved;
  U16 entry_count;
  std::array<U32, 5> reserved2;
};
static_assert(sizeof(MetadataTableHeader) == 32);
constexpr std::uint64_t kMetadataSignature = 0x617461646174656d;  // "metadata"
constexpr std::uint64_t kMetadataTableLength = 64 * kKiB;
struct MetadataTableEntry {
  Guid item;
  U32 offset;  // in the metadata region; at least 64 KiB
  U32 length;
  U32 flags;
  U32 reserved;
};
static_assert(sizeof(MetadataTableEntry) == 32);
constexpr std::uint32_t kMetadataIsUser = 1;
constexpr std::uint32_t kMetadataIsVirtualDisk = 2;
constexpr std::uint32_t kMetadataIsRequired = 4;

/// Section 2.6.2.
constexpr Guid kFileParametersItem = Guid::of("caa16737-fa36-4d43-b3b6-33f0aa44e76b");
constexpr Guid kVirtualDiskSizeItem = Guid::of("2fa54224-cd1b-4876-b211-5dbed83bf4b8");
constexpr Guid kPage83DataItem = Guid::of("beca12ab-b2e6-4523-93ef-c309e000c746");
constexpr Guid kLogicalSectorSizeItem = Guid::of("8141bf1d-a96f-4709-ba47-f233a8faab5f");
constexpr Guid kPhysicalSectorSizeItem = Guid::of("cda348c7-445d-4471-9cc9-e9885251c556");
constexpr Guid kParentLocatorItem = Guid::of("a8d35f2d-b30b-454d-abf7-d3d84834ab0c");
struct FileParameters {
  U32 block_size;
  U32 flags;
};
static_assert(sizeof(FileParameters) == 8);
constexpr std::uint32_t kLeaveBlocksAllocated = 1;
constexpr std::uint32_t kHasParent = 2;
struct ParentLocatorHeader {
  Guid locator_type;
  U16 reserved;
  U16 key_value_count;
};
static_assert(sizeof(ParentLocatorHeader) == 20);
struct ParentLocatorEntry {
  U32 key_offset;
  U32 value_offset;
  U16 key_length;
  U16 value_length;
};
static_assert(sizeof(ParentLocatorEntry) == 12);
constexpr Guid kVhdxParentLocator = Guid::of("b04aefb7-d19e-4a81-b789-25b8e9445913");

}  // namespace bulkhead::disk::vhdx
