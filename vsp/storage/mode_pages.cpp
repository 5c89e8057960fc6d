// SPDX-License-Identifier: Apache-2.0
#include "vsp/storage/mode_pages.hpp"

namespace bulkhead::vsp::storage {
namespace {

constexpr std::uint8_t kAllPages = 0x3f;
constexpr std::uint8_t kAllSubpages = 0xff;

enum class PageControl : std::uint8_t { Current = 0, Changeable = 1, Default = 2, Saved = 3 };

std::vector<std::uint8_t> block_descriptors(const ModeHeader& header, bool large) {
  std::vector<std::uint8_t> bytes;
  if (!header.blocks) return bytes;
  if (large) {
    append(bytes, scsi::Big64(header.blocks->count));
    append(bytes, scsi::Big32(0));
  } else {
    append(bytes, scsi::Big32(static_cast<std::uint32_t>(std::min<std::uint64_t>(header.blocks->count, UINT32_MAX))));
  }
  append(bytes, scsi::Big32(header.blocks->size));
  return bytes;
}

/// The pages that were asked for; nothing if there is no such page.
std::optional<std::vector<std::uint8_t>> wanted_pages(const ScsiCommand& command, std::span<const ModePage> pages,
                                                      PageControl control) {
  const std::uint8_t code = command.cdb[2] & 0x3f, subpage = command.cdb[3];
  if (subpage != 0 && subpage != kAllSubpages) return std::nullopt;
  std::vector<std::uint8_t> bytes;
  for (const auto& page : pages) {
    if (code != kAllPages && code != page.code) continue;
    bytes.push_back(page.code);
    bytes.push_back(static_cast<std::uint8_t>(page.body.size()));
    if (control == PageControl::Changeable)
      bytes.resize(bytes.size() + page.body.size());
    else
      bytes.insert(bytes.end(), page.body.begin(), page.body.end());
  }
  if (bytes.empty() && code != kAllPages) return std::nullopt;
  return bytes;
}

}  // namespace

ScsiResult mode_sense(const ScsiCommand& command, const ModeHeader& header, std::span<const ModePage> pages) {
  const bool ten = command.opcode() == scsi::Opcode::ModeSense10;
  const PageControl control{static_cast<std::uint8_t>(command.cdb[2] >> 6)};
  if (control == PageControl::Saved) return ScsiResult::failed(scsi::sense::kSavingParametersNotSupported);
  const auto wanted = wanted_pages(command, pages, control);
  if (!wanted) return ScsiResult::failed(scsi::sense::kInvalidFieldInCdb);
  const bool no_descriptors = (command.cdb[1] & 0x08) != 0;
  const bool large = ten && (command.cdb[1] & 0x10) != 0;
  const auto descriptors = no_descriptors ? std::vector<std::uint8_t>() : block_descriptors(header, large);
  std::vector<std::uint8_t> data;
  const std::size_t rest = descriptors.size() + wanted->size();
  if (ten) {
    append(data, scsi::Big16(static_cast<std::uint16_t>(6 + rest)));
    append(data, std::array<std::uint8_t, 4>{0, header.device_specific,
                                             static_cast<std::uint8_t>(large && header.blocks && !no_descriptors), 0});
    append(data, scsi::Big16(static_cast<std::uint16_t>(descriptors.size())));
  } else {
    data = {static_cast<std::uint8_t>(3 + rest), 0, header.device_specific,
            static_cast<std::uint8_t>(descriptors.size())};
  }
  data.insert(data.end(), descriptors.begin(), descriptors.end());
  data.insert(data.end(), wanted->begin(), wanted->end());
  return answer(command, data, ten ? command.number<std::uint16_t>(7) : command.cdb[4]);
}

}  // namespace bulkhead::vsp::storage
