// SPDX-License-Identifier: Apache-2.0
//
// What of a processor the emulator looks at and changes.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "abi/register.hpp"

namespace bulkhead::engine::emulator {

/// Segment registers as TLFS and the processor number them.
inline constexpr std::uint8_t kEs = 0, kCs = 1, kSs = 2, kDs = 3, kFs = 4, kGs = 5;

inline constexpr std::uint64_t kCr0ProtectionEnable = 1u << 0, kCr0WriteProtect = 1u << 16,
                               kCr0AlignmentMask = 1u << 18, kCr0Paging = 1u << 31;
inline constexpr std::uint64_t kCr4PageSizeExtension = 1u << 4, kCr4PhysicalAddressExtension = 1u << 5,
                               kCr4La57 = 1u << 12, kCr4Smep = 1u << 20, kCr4Smap = 1u << 21;
inline constexpr std::uint64_t kEferLongModeActive = 1u << 10, kEferNoExecute = 1u << 11;
inline constexpr std::uint64_t kCarry = 1u << 0, kParity = 1u << 2, kAdjust = 1u << 4, kZero = 1u << 6, kSign = 1u << 7,
                               kTrap = 1u << 8, kDirection = 1u << 10, kOverflow = 1u << 11, kResume = 1u << 16,
                               kVirtual8086 = 1u << 17, kAlignmentCheck = 1u << 18;
inline constexpr std::uint64_t kArithmeticFlags = kCarry | kParity | kAdjust | kZero | kSign | kOverflow;

inline constexpr std::uint16_t kSegmentPresent = 1u << 7, kSegmentLong = 1u << 13, kSegmentDefault = 1u << 14;

struct ProcessorState {
  std::array<std::uint64_t, 16> general;  // as the processor numbers them
  std::uint64_t rip;
  std::uint64_t rflags;
  std::array<abi::SegmentRegister, 6> segments;
  std::uint64_t cr0, cr3, cr4, efer;
  /// The guest's physical address width: page-table bits above it are reserved.
  std::uint8_t physical_address_bits = 52;

  unsigned privilege_level() const {
    if (!(cr0 & kCr0ProtectionEnable)) return 0;
    if (rflags & kVirtual8086) return 3;
    return (segments[kSs].attributes >> 5) & 3;
  }
  bool is_64_bit() const { return (efer & kEferLongModeActive) && (segments[kCs].attributes & kSegmentLong); }
  bool is_real_or_virtual_8086() const { return !(cr0 & kCr0ProtectionEnable) || (rflags & kVirtual8086); }
};

/// XMM registers are fetched only by the instructions that need them.
class VectorRegisters {
 public:
  virtual ~VectorRegisters() = default;
  /// False if they cannot be had.
  virtual bool read(unsigned index, std::span<std::uint8_t, 16> value) = 0;
  /// `clear_upper`: also zeroes what the register has above 128 bits.
  virtual bool write(unsigned index, std::span<const std::uint8_t, 16> value, bool clear_upper) = 0;
};

}  // namespace bulkhead::engine::emulator
