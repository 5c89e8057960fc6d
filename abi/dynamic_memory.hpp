// SPDX-License-Identifier: Apache-2.0
//
// Dynamic memory (the balloon): the guest tells how much memory it needs, the host takes pages and gives them back, and
// adds memory that the guest did not have at its start. Messages are the whole payload of in-band packets.
//
//   guest                                  host
//     VERSION_REQUEST       ──────────▶          newest first, until one is accepted
//                           ◀──────────    VERSION_RESPONSE
//     CAPABILITIES_REPORT   ──────────▶
//                           ◀──────────    CAPABILITIES_RESPONSE
//     STATUS_REPORT         ──────────▶          about every second
//                           ◀──────────    BALLOON_REQUEST          take these many pages out of use
//     BALLOON_RESPONSE ...  ──────────▶          which they are, in as many messages as it takes
//                           ◀──────────    UNBALLOON_REQUEST ...    use them again
//     UNBALLOON_RESPONSE    ──────────▶
//                           ◀──────────    MEM_HOT_ADD_REQUEST
//     MEM_HOT_ADD_RESPONSE  ──────────▶
//
// Memory is counted in pages of 4 KiB.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi/guid.hpp"

namespace bulkhead::abi::dynamic_memory {

inline constexpr Guid kInterface = Guid::of("525074dc-8985-46e2-8057-a307dc18a502");
inline constexpr Guid kInstance = Guid::of("1eccfd72-4b41-45ef-b73a-4a6e44c12924");

/// Major version in the high half, minor in the low one.
enum class Version : std::uint32_t { V0_3 = 0x0000'0003, V1_0 = 0x0001'0000, V2_0 = 0x0002'0000 };

enum class MessageType : std::uint16_t {
  VersionRequest = 1,
  VersionResponse = 2,
  CapabilitiesReport = 3,
  CapabilitiesResponse = 4,
  StatusReport = 5,
  BalloonRequest = 6,
  BalloonResponse = 7,
  UnballoonRequest = 8,
  UnballoonResponse = 9,
  HotAddRequest = 10,
  HotAddResponse = 11,
};

struct Header {
  MessageType type;
  std::uint16_t size;  // of the whole message
  std::uint32_t transaction;
};
static_assert(sizeof(Header) == 8);

struct VersionRequest {
  Header header;
  Version version;
  std::uint32_t flags;  // bit 0: the guest's last attempt
};
static_assert(sizeof(VersionRequest) == 16);

/// VERSION_RESPONSE and CAPABILITIES_RESPONSE.
struct Response {
  static constexpr std::uint64_t kAccepted = 1;

  Header header;
  std::uint64_t flags;
};
static_assert(sizeof(Response) == 16);

struct CapabilitiesReport {
  static constexpr std::uint64_t kBalloon = 1;
  static constexpr std::uint64_t kHotAdd = 2;

  Header header;
  std::uint64_t flags;  // bits 5:2: alignment of hot-added memory, 2^n MiB
  std::uint64_t minimum_page_count;
  std::uint64_t maximum_page_number;
};
static_assert(sizeof(CapabilitiesReport) == 32);

struct StatusReport {
  Header header;
  std::uint64_t available_pages;
  std::uint64_t committed_pages;  // what was taken from the guest counts too
  std::uint64_t page_file_size;
  std::uint64_t zero_free_pages;
  std::uint32_t page_file_writes;
  std::uint32_t io_difference;
};
static_assert(sizeof(StatusReport) == 48);

struct BalloonRequest {
  Header header;
  std::uint32_t page_count;
  std::uint32_t reserved;
};
static_assert(sizeof(BalloonRequest) == 16);

/// A run of pages: number of the first in bits 39:0, how many in bits 63:40.
enum class PageRange : std::uint64_t {};
inline constexpr std::uint64_t kMaximumRangePages = 0xff'ffff;
constexpr std::uint64_t first_page(PageRange range) { return static_cast<std::uint64_t>(range) & 0xff'ffff'ffff; }
constexpr std::uint64_t page_count(PageRange range) { return static_cast<std::uint64_t>(range) >> 40; }
constexpr PageRange page_range(std::uint64_t first, std::uint64_t count) {
  return static_cast<PageRange>(first | count << 40);
}

/// Ranges follow.
struct BalloonResponse {
  static constexpr std::uint32_t kMore = 1;

  Header header;
  std::uint32_t reserved;
  std::uint32_t more_and_count;  // bit 0: more messages follow; bits 31:1: how many ranges
};
static_assert(sizeof(BalloonResponse) == 16);

/// Ranges follow.
struct UnballoonRequest {
  static constexpr std::uint32_t kMore = 1;

  Header header;
  std::uint32_t flags;
  std::uint32_t range_count;
};
static_assert(sizeof(UnballoonRequest) == 16);

/// A second range may follow: the region that the guest shall make ready for more. We leave that to the guest.
struct HotAddRequest {
  Header header;
  PageRange memory;
};
static_assert(sizeof(HotAddRequest) == 16);

struct HotAddResponse {
  Header header;
  std::uint32_t page_count;  // that were added
  std::uint32_t result;      // 1, with no page added: never again; 0: perhaps later
};
static_assert(sizeof(HotAddResponse) == 16);

/// Bytes of the largest message of either side.
inline constexpr std::size_t kMaximumMessageSize = 4096;

}  // namespace bulkhead::abi::dynamic_memory
