// SPDX-License-Identifier: Apache-2.0
//
// The other modes of the processor. mode_run leaves 64-bit mode for another one, touches devices there with the
// instructions of modes.S, and comes back; what they found is in the request.
//
//   64-bit ──▶ 32-bit without paging ──▶ the mode ──▶ 32-bit without paging ──▶ 64-bit
//
// In real mode the segments keep their limits of 4 GiB, so that devices can be reached.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bulkhead::guest {

/// The instructions' default size, and with it what kind of code runs.
enum class CodeSize : std::uint32_t { Bits32 = 0, Bits16 = 1, Bits64 = 2 };

/// modes.S knows where these lie. Addresses are linear ones of the mode, and below 4 GiB.
struct ModeRequest {
  std::uint32_t page_table;  // CR3; 0: no paging
  std::uint32_t cr4;
  std::uint32_t long_mode;  // EFER.LME: 0 or 0x100
  CodeSize code_size;
  std::uint32_t device;    // the IOAPIC's registers
  std::uint32_t straddle;  // four bytes on two pages, of which the second one at least is no memory
  std::uint32_t buffer;    // 16 bytes of memory on two pages, 8 on each
  std::uint32_t fragment;  // an instruction that lies on two pages: mode_fragment of the code size
  std::uint32_t found[16];
};
static_assert(offsetof(ModeRequest, found) == 32);

/// Where real mode's code and data are: below 64 KiB.
inline constexpr std::uint32_t kRealModeCode = 0x7000;
inline constexpr std::uint32_t kRealModePages = 0x5000;  // two of them
inline constexpr std::uint16_t kScratchPort = 0x3ff;     // COM1's scratch register
inline constexpr std::uint16_t kHolePort = 0xd00;        // of nothing, four wide

extern "C" {
/// With interrupts disabled. Copy mode_code_16 to kRealModeCode before.
void mode_run(ModeRequest* request);
extern const char mode_code_16[], mode_code_16_end[];
/// A load of [EBX] to EAX and a jump to EDX.
extern const char mode_fragment_16[], mode_fragment_32[], mode_fragment_64[], mode_fragment_end[];
}

}  // namespace bulkhead::guest
