// SPDX-License-Identifier: Apache-2.0
#include "disk/vhd/footer.hpp"

#include <algorithm>
#include <ctime>
#include <numeric>

namespace bulkhead::disk::vhd {
namespace {

constexpr std::time_t kEpoch = 946684800;  // 2000-01-01 00:00 UTC

std::uint32_t sum_of(std::span<const std::byte> bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), std::uint32_t{0},
                         [](std::uint32_t sum, std::byte b) { return sum + static_cast<std::uint32_t>(b); });
}

template <typename Layout>
std::uint32_t checksum_of(Layout layout) {
  layout.checksum = 0;
  return ~sum_of(bytes_of(layout));
}

}  // namespace

bool is_valid(const Footer& footer) { return footer.cookie == kFooterCookie && footer.checksum == checksum_of(footer); }

bool is_valid(const DynamicHeader& header) {
  return header.cookie == kHeaderCookie && header.checksum == checksum_of(header);
}

void seal(Footer& footer) { footer.checksum = checksum_of(footer); }

void seal(DynamicHeader& header) { header.checksum = checksum_of(header); }

void set_size(Footer& footer, std::uint64_t size) {
  footer.current_size = size;
  // The specification's appendix on the geometry of a disk of a given size.
  const std::uint64_t sectors = std::min<std::uint64_t>(size / kSector, std::uint64_t{65535} * 16 * 255);
  std::uint64_t per_track = 17;
  std::uint64_t heads = 0;
  std::uint64_t tracks = 0;
  if (sectors >= std::uint64_t{65535} * 16 * 63) {
    per_track = 255;
    heads = 16;
    tracks = sectors / per_track;
  } else {
    tracks = sectors / per_track;
    heads = std::max<std::uint64_t>((tracks + 1023) / 1024, 4);
    if (tracks >= heads * 1024 || heads > 16) {
      per_track = 31;
      heads = 16;
      tracks = sectors / per_track;
    }
    if (tracks >= heads * 1024) {
      per_track = 63;
      heads = 16;
      tracks = sectors / per_track;
    }
  }
  footer.cylinders = static_cast<std::uint16_t>(tracks / heads);
  footer.heads = static_cast<std::uint8_t>(heads);
  footer.sectors_per_track = static_cast<std::uint8_t>(per_track);
}

Footer make_footer(std::uint64_t size, DiskType type, const Guid& identity) {
  Footer footer{};
  footer.cookie = kFooterCookie;
  footer.features = 2;  // a bit that is always set
  footer.version = 0x00010000;
  footer.data_offset = type == DiskType::fixed ? kNoOffset : kSector;
  footer.timestamp = static_cast<std::uint32_t>(std::time(nullptr) - kEpoch);
  // Readers decide by the creator whether a disk has the size that its footer says or the one of its geometry
  // (QEMU among them). With this one they take the size.
  footer.creator_application = {'w', 'i', 'n', ' '};
  footer.creator_version = 0x000a0000;
  footer.creator_host = {'W', 'i', '2', 'k'};
  footer.original_size = size;
  set_size(footer, size);
  footer.disk_type = static_cast<std::uint32_t>(type);
  footer.unique_id = identity.big_endian();
  seal(footer);
  return footer;
}

}  // namespace bulkhead::disk::vhd
