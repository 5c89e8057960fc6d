// SPDX-License-Identifier: Apache-2.0
//
// What lies where in a VHD file ("Virtual Hard Disk Image Format Specification", 2006). All numbers are big-endian.
//
//     fixed:    | the disk                                                     | footer |
//     dynamic:  | copy of the footer | header | BAT | bitmap, block | bitmap, block ... | footer |
//
// A BAT entry is the sector at which a block's bitmap begins; the block's data follows it.
#pragma once

#include <array>
#include <cstdint>

#include "disk/byte_order.hpp"

namespace bulkhead::disk::vhd {

using U16 = BigEndian<std::uint16_t>;
using U32 = BigEndian<std::uint32_t>;
using U64 = BigEndian<std::uint64_t>;

constexpr std::uint64_t kSector = 512;
constexpr std::uint64_t kLargestDisk = 2040 * kGiB;
constexpr std::uint32_t kUnused = 0xffffffff;  // BAT entry of a block that is not there
constexpr std::uint64_t kNoOffset = ~std::uint64_t{0};

enum class DiskType : std::uint32_t { fixed = 2, dynamic = 3, differencing = 4 };

struct Footer {
  std::array<char, 8> cookie;
  U32 features;
  U32 version;
  U64 data_offset;  // of the dynamic header; kNoOffset if fixed
  U32 timestamp;    // seconds since 2000-01-01 UTC
  std::array<char, 4> creator_application;
  U32 creator_version;
  std::array<char, 4> creator_host;
  U64 original_size;
  U64 current_size;
  U16 cylinders;
  std::uint8_t heads;
  std::uint8_t sectors_per_track;
  U32 disk_type;
  U32 checksum;  // ones' complement of the sum of all other bytes
  std::array<std::uint8_t, 16> unique_id;
  std::uint8_t saved_state;
  std::array<std::uint8_t, 427> reserved;
};
static_assert(sizeof(Footer) == 512);
constexpr std::array<char, 8> kFooterCookie = {'c', 'o', 'n', 'e', 'c', 't', 'i', 'x'};

struct ParentLocatorEntry {
  U32 platform;
  U32 space;  // bytes set aside for it
  U32 length;
  U32 reserved;
  U64 offset;
};
static_assert(sizeof(ParentLocatorEntry) == 24);
constexpr std::uint32_t kPlatformAbsolute = 0x57326b75;  // "W2ku", UTF-16LE
constexpr std::uint32_t kPlatformRelative = 0x57327275;  // "W2ru", UTF-16LE

struct DynamicHeader {
  std::array<char, 8> cookie;
  U64 data_offset;
  U64 table_offset;
  U32 header_version;
  U32 max_table_entries;
  U32 block_size;
  U32 checksum;
  std::array<std::uint8_t, 16> parent_unique_id;
  U32 parent_timestamp;
  U32 reserved;
  std::array<std::byte, 512> parent_name;  // UTF-16BE
  std::array<ParentLocatorEntry, 8> locators;
  std::array<std::uint8_t, 256> reserved2;
};
static_assert(sizeof(DynamicHeader) == 1024);
constexpr std::array<char, 8> kHeaderCookie = {'c', 'x', 's', 'p', 'a', 'r', 's', 'e'};

}  // namespace bulkhead::disk::vhd
