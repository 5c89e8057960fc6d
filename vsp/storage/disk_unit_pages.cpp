// SPDX-License-Identifier: Apache-2.0
//
// What a disk says of itself: the vital product data that only disks have (SBC-3 6.5), and its mode pages.
#include <algorithm>

#include "vsp/storage/disk_unit.hpp"
#include "vsp/storage/mode_pages.hpp"

namespace bulkhead::vsp::storage {
namespace {

constexpr std::uint8_t kBlockLimits = 0xb0;
constexpr std::uint8_t kBlockDeviceCharacteristics = 0xb1;
constexpr std::uint8_t kLogicalBlockProvisioning = 0xb2;
constexpr std::array<std::uint8_t, 3> kPages = {kBlockLimits, kBlockDeviceCharacteristics, kLogicalBlockProvisioning};

}  // namespace

std::span<const std::uint8_t> DiskUnit::more_pages() const { return kPages; }

std::vector<std::uint8_t> DiskUnit::vital_product_data(std::uint8_t page) const {
  switch (page) {
    case kBlockLimits: return block_limits();
    case kBlockDeviceCharacteristics: {
      std::vector<std::uint8_t> data(60);
      data[1] = 1;  // does not rotate
      return data;
    }
    case kLogicalBlockProvisioning:
      // UNMAP and WRITE SAME (16 and 10) give space back; nothing is promised of what is read there; thin.
      return {0, 0xe0, 0x02, 0};
    default: return LogicalUnit::vital_product_data(page);
  }
}

ScsiResult DiskUnit::modes(const ScsiCommand& command) const {
  // Caching: the write cache is on. Control: commands are ordered by the guest. Informational exceptions: none.
  const std::array<ModePage, 3> pages = {ModePage{0x08, {0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
                                         ModePage{0x0a, {0x02, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0}},
                                         ModePage{0x1c, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}};
  constexpr std::uint8_t kWriteProtected = 0x80, kHonoursForcedAccess = 0x10;
  const auto specific = static_cast<std::uint8_t>(kHonoursForcedAccess | (write_protected_ ? kWriteProtected : 0));
  return mode_sense(command, {specific, ModeHeader::Blocks{block_count(), block_size()}}, pages);
}

std::vector<std::uint8_t> DiskUnit::block_limits() const {
  const std::uint32_t unit = std::max(disk_->properties().physical_sector, block_size());
  const std::uint32_t granularity = std::max(disk_->properties().block, unit);
  std::vector<std::uint8_t> data = {0x01, 0};  // WSNZ; no COMPARE AND WRITE
  append(data, scsi::Big16(static_cast<std::uint16_t>(std::min(unit / block_size(), 0xffffu))));
  append(data, scsi::Big32(0));  // transfers of any length that the controller takes
  append(data, scsi::Big32(0));
  append(data, scsi::Big32(0));
  append(data, scsi::Big32(UINT32_MAX));  // blocks of one UNMAP
  append(data, scsi::Big32(kMaximumUnmapDescriptors));
  append(data, scsi::Big32(granularity / block_size()));
  append(data, scsi::Big32(0));
  append(data, scsi::Big64(kMaximumWriteSame / block_size()));
  data.resize(60);
  return data;
}

}  // namespace bulkhead::vsp::storage
