// SPDX-License-Identifier: Apache-2.0
//
// Loads the segments of an executable image into guest memory, for instance those of a 32-bit ELF file.
#pragma once

#include <cstdint>
#include <span>

#include "engine/guest_memory.hpp"
#include "firmware/firmware.hpp"

namespace bulkhead::firmware {

/// `content` goes to `address`; zeros follow until there are `size` bytes.
struct ImageSegment {
  std::uint64_t address;
  std::span<const std::uint8_t> content;
  std::uint64_t size;
};

struct LoadedImage {
  std::uint64_t begin;
  std::uint64_t end;
  std::uint64_t entry;  // physical
};

/// Errors: a segment does not lie in the guest's memory; those of `copy`.
Result<LoadedImage> load_segments(engine::GuestMemory& memory, std::span<const ImageSegment> segments,
                                  std::uint64_t entry, const Copy& copy);

/// Loads an ELF image for i386 to its physical addresses. An entry within a segment's virtual addresses is translated.
/// Errors: no such image, cut short, nothing to load, or not in the guest's memory; those of `copy`.
Result<LoadedImage> load_elf32(engine::GuestMemory& memory, std::span<const std::uint8_t> file, const Copy& copy);

}  // namespace bulkhead::firmware
