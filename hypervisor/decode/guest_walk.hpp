// SPDX-License-Identifier: Apache-2.0
//
// The guest's own page tables: from a linear to a guest physical address, as the processor would go. Used to fetch
// an instruction that the guest has just executed, so rights are not checked and nothing is marked accessed.
// AMD64 APM volume 2, "Page Translation and Protection".
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "hypervisor/memory/frame.hpp"
#include "hypervisor/vp/vp_hardware.hpp"

namespace bulkhead::hypervisor {

inline constexpr std::uint64_t kCr0ProtectedMode = 1u << 0;
inline constexpr std::uint64_t kCr0Paging = 1u << 31;
inline constexpr std::uint64_t kCr4PageSizeExtensions = 1u << 4;
inline constexpr std::uint64_t kCr4PhysicalAddressExtension = 1u << 5;
inline constexpr std::uint64_t kCr4FiveLevels = 1u << 12;
inline constexpr std::uint64_t kEferLongModeActive = 1u << 10;

/// `page_at(GuestPage) -> const std::byte*` gives the memory of a guest's page, or null. Nothing: not mapped.
template <typename PageAt>
std::optional<std::uint64_t> walk_guest(const ExecutionMode& mode, std::uint64_t linear, PageAt&& page_at) {
  constexpr std::uint64_t kAddressBits = 0x000ffffffffff000;
  constexpr std::uint64_t kPresent = 1, kLarge = 1 << 7;
  if (!(mode.cr0 & kCr0Paging)) return linear;

  const bool wide = (mode.cr4 & kCr4PhysicalAddressExtension) != 0;  // entries of 8 bytes, 512 to a table
  const unsigned entry_size = wide ? 8 : 4;
  const unsigned index_bits = wide ? 9 : 10;
  unsigned level = !wide ? 2 : !(mode.efer & kEferLongModeActive) ? 3 : mode.cr4 & kCr4FiveLevels ? 5 : 4;
  // The top table of PAE paging is 32 bytes, and aligned to that only.
  std::uint64_t table = level == 3 ? mode.cr3 & 0xffffffe0 : mode.cr3 & (wide ? kAddressBits : 0xfffff000);

  for (;; --level) {
    const unsigned shift = 12 + index_bits * (level - 1);
    const std::uint64_t index = linear >> shift & ((1u << index_bits) - 1);
    const std::uint64_t address =
        table + (level == 3 && !(mode.efer & kEferLongModeActive) ? index & 3 : index) * entry_size;
    const std::byte* page = page_at(GuestPage::at(address));
    if (!page) return std::nullopt;
    std::uint64_t entry = 0;
    std::memcpy(&entry, page + address % kPageSize, entry_size);
    if (!(entry & kPresent)) return std::nullopt;

    const bool may_be_large = wide ? level == 2 || (level == 3 && (mode.efer & kEferLongModeActive))
                                   : level == 2 && (mode.cr4 & kCr4PageSizeExtensions);
    if (level == 1 || (may_be_large && (entry & kLarge))) {
      const std::uint64_t offset = linear & ((1ull << shift) - 1);
      if (!wide && level == 2) {
        // PSE-36: bits 20..13 of the entry are bits 39..32 of the address.
        return (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32 | offset;
      }
      return (entry & kAddressBits & ~((1ull << shift) - 1)) | offset;
    }
    table = entry & (wide ? kAddressBits : 0xfffff000);
  }
}

/// The instruction at `linear`, as far as it can be read, decoded. `first_page`: the memory of the page that it begins in; null: there is
/// none.
template <typename PageAt>
std::optional<Instruction> fetch_guest_instruction(const ExecutionMode& mode, std::uint64_t linear, PageAt&& page_at,
                                                   const std::byte*& first_page) {
  std::uint8_t bytes[kMaximumInstructionLength];
  unsigned count = 0;
  first_page = nullptr;
  while (count < kMaximumInstructionLength) {
    std::uint64_t address = linear + count;
    if (!mode.is_64_bit()) address = static_cast<std::uint32_t>(address);
    const std::optional<std::uint64_t> gpa = walk_guest(mode, address, page_at);
    const std::byte* page = gpa ? page_at(GuestPage::at(*gpa)) : nullptr;
    if (!page) break;
    if (count == 0) first_page = page;
    const auto room = static_cast<unsigned>(kPageSize - address % kPageSize);
    const unsigned part = std::min(room, kMaximumInstructionLength - count);
    std::memcpy(bytes + count, page + address % kPageSize, part);
    count += part;
  }
  return decode(std::span(bytes).first(count), mode.code_size());
}

}  // namespace bulkhead::hypervisor
