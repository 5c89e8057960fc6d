// SPDX-License-Identifier: Apache-2.0
//
// What the rooms without privileged instructions need of the machine. The image implements these functions in
// hypervisor/{boot,processor,svm}; the tests link fakes of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "hypervisor/memory/frame.hpp"

namespace bulkhead::hypervisor {

class VpHardware;
struct VpHardwareSettings;

namespace machine {

/// Logical processors are numbered from 0 without gaps.
std::uint32_t current_lp();
std::uint32_t lp_count();

/// Time stamp counter of the root, not offset, and its frequency in Hz. The counters of all processors agree.
std::uint64_t tsc();
std::uint64_t tsc_frequency();

/// Makes `lp`, if it runs a guest now or is about to enter one, leave it soon (an NMI): VpHardware::enter returns there with
/// ExitReason::Kick, or with something else that happened in the same moment. Nothing happens to an LP in the
/// hypervisor except that its next entry may end at once. Never waits; may be called with locks held.
void kick(std::uint32_t lp);

/// After the root's second-level table lost a right: when this returns, no logical processor uses an old translation of
/// it in the root any more. An LP that is inside the hypervisor flushes before it enters the root again and is
/// not waited for; so this may be called with locks held.
void flush_root_tlb_everywhere();

struct CpuidResult {
  std::uint32_t eax, ebx, ecx, edx;
};
/// The processor's own CPUID, not filtered.
CpuidResult host_cpuid(std::uint32_t leaf, std::uint32_t subleaf);

/// XCR0 bits that a child may set: those of the processor whose state fits the room that VpHardware has for it. 0: no XSAVE.
std::uint64_t xsave_features();

/// The memory of a frame (identity map of all of the machine's memory).
std::byte* frame_pointer(Frame frame);

/// How many frames of 4 KiB (not contiguous) create_vp_hardware needs.
std::size_t vp_hardware_frame_count();
/// `frames` are zeroed and belong to the new object until destroy_vp_hardware. The VP is in its power-up state.
VpHardware* create_vp_hardware(std::span<const Frame> frames, const VpHardwareSettings& settings);
void destroy_vp_hardware(VpHardware& hardware);

/// One line on the debug output, followed by the number. Limited in rate, so guests may cause it.
void log(std::string_view text, std::uint64_t value);

/// Stops the machine.
[[noreturn]] void panic(std::string_view why);

}  // namespace machine
}  // namespace bulkhead::hypervisor
