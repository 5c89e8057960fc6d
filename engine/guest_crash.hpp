// SPDX-License-Identifier: Apache-2.0
//
// What a guest's crash registers say: TLFS, "Guest Crash Enlightenment". P3 and P4 are address and length of a text if the
// control register says so.
#pragma once

#include "engine/engine.hpp"

namespace bulkhead::engine {

inline constexpr std::uint32_t kMsrReset = 0x4000'0003;
inline constexpr std::uint32_t kMsrCrashP0 = 0x4000'0100;
inline constexpr std::uint32_t kMsrCrashControl = 0x4000'0105;

/// Bits of the control register: tell the host now; there is a text.
inline constexpr std::uint64_t kCrashNotify = 1ull << 63;
inline constexpr std::uint64_t kCrashMessage = 1ull << 62;
inline constexpr std::size_t kCrashTextMaximum = 4096;

/// `control` as the guest wrote it, with kCrashNotify. A text that is not in the guest's memory is empty.
CrashExit read_crash(const GuestMemory* memory, const std::array<std::uint64_t, 5>& parameters, std::uint64_t control);

}  // namespace bulkhead::engine
