// SPDX-License-Identifier: Apache-2.0
//
// The setup header of a bzImage, whoever loads it: Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
#pragma once

#include <cstddef>
#include <cstdint>

namespace bulkhead::firmware {

// Offsets in the kernel file, and in boot_params, where the setup header has the same place.
inline constexpr std::size_t kSetupSectors = 0x1f1;
inline constexpr std::size_t kVersion = 0x206;
inline constexpr std::size_t kTypeOfLoader = 0x210;
inline constexpr std::size_t kLoadFlags = 0x211;
inline constexpr std::size_t kRamdiskImage = 0x218;
inline constexpr std::size_t kRamdiskSize = 0x21c;
inline constexpr std::size_t kCommandLinePointer = 0x228;
inline constexpr std::size_t kInitrdAddressMaximum = 0x22c;
inline constexpr std::size_t kCommandLineMaximum = 0x238;
inline constexpr std::size_t kSmallestFile = 0x268;

inline constexpr std::uint8_t kLoadedHigh = 1 << 0;  // of the load flags
inline constexpr std::uint8_t kUndefinedLoader = 0xff;

/// Bytes of the boot sector and the setup sectors, which the protected-mode kernel follows.
constexpr std::size_t setup_size(std::uint8_t sectors) { return ((sectors == 0 ? 4 : sectors) + 1) * std::size_t{512}; }

}  // namespace bulkhead::firmware
