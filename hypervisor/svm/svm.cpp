// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/svm/svm.hpp"

#include <new>

#include "hypervisor/machine.hpp"
#include "hypervisor/processor/privileged.hpp"
#include "hypervisor/processor/start.hpp"
#include "hypervisor/svm/svm_vp.hpp"

namespace bulkhead::hypervisor {
namespace svm {

Features features;
Permissions permissions;

namespace {

constexpr std::uint32_t kMsrEfer = 0xc0000080, kMsrVmCr = 0xc0010114, kMsrHostSaveArea = 0xc0010117;
constexpr std::uint64_t kEferNoExecute = 1u << 11, kEferAutomaticIbrs = 1u << 21;
constexpr std::uint64_t kVmCrDisabled = 1u << 4;

bool has(std::uint32_t word, unsigned bit) { return (word >> bit) & 1; }

/// The components whose place in the area, CPUID 0Dh, ends within ours.
std::uint64_t components_that_fit() {
  const machine::CpuidResult main = machine::host_cpuid(0xd, 0);
  const std::uint64_t supported = (std::uint64_t{main.edx} << 32) | main.eax;
  std::uint64_t fit = supported & 3;
  for (unsigned component = 2; component < 63; ++component) {
    if (!((supported >> component) & 1)) continue;
    const machine::CpuidResult place = machine::host_cpuid(0xd, component);
    if (place.ebx + place.eax <= kExtendedStateSize) fit |= std::uint64_t{1} << component;
  }
  return fit;
}

/// Turns SVM on, on this logical processor.
void enable(std::uint64_t host_save_area) {
  std::uint64_t efer = privileged::read_msr(kMsrEfer) | kEferSvm | kEferNoExecute;
  const bool automatic_ibrs =
      machine::host_cpuid(0x80000000, 0).eax >= 0x80000021 && has(machine::host_cpuid(0x80000021, 0).eax, 8);
  if (automatic_ibrs) efer |= kEferAutomaticIbrs;
  privileged::write_msr(kMsrEfer, efer);
  privileged::write_msr(kMsrHostSaveArea, host_save_area);
  asm volatile("clgi");
}

}  // namespace

const char* find_features() {
  if (machine::host_cpuid(0x80000000, 0).eax < 0x8000000a) return "the processor has no SVM";
  const machine::CpuidResult extended = machine::host_cpuid(0x80000001, 0);
  if (!has(extended.ecx, 2)) return "the processor has no SVM";
  if (!has(extended.edx, 20)) return "the processor has no no-execute pages";
  if (privileged::read_msr(kMsrVmCr) & kVmCrDisabled) return "SVM is turned off by the firmware";
  const machine::CpuidResult svm = machine::host_cpuid(0x8000000a, 0);
  if (!has(svm.edx, 0)) return "the processor has no nested paging";
  if (svm.ebx < 4) return "the processor has too few address space identifiers";
  features.next_rip = has(svm.edx, 3) ? ~std::uint64_t{0} : 0;
  features.flush_by_asid = has(svm.edx, 6);
  features.decode_assists = has(svm.edx, 7);
  features.pause_filter = has(svm.edx, 10);
  features.last_asid = svm.ebx - 1;
  features.tsc_aux = has(extended.edx, 27);
  if (machine::host_cpuid(0x80000000, 0).eax >= 0x80000008) {
    features.branch_barrier = has(machine::host_cpuid(0x80000008, 0).ebx, 12);
  }
  features.xsave = has(machine::host_cpuid(1, 0).ecx, 26);
  if (features.xsave) {
    features.xcr0 = components_that_fit();
    // The root enables what it likes, and all of it has to be put away when a child runs.
    const machine::CpuidResult main = machine::host_cpuid(0xd, 0);
    if (features.xcr0 != ((std::uint64_t{main.edx} << 32) | main.eax))
      return "the processor's XSAVE state is too large";
  }
  return nullptr;
}

}  // namespace svm

VpHardware* processors::create_root_hardware(LogicalProcessor& processor, const VpHardwareSettings& settings) {
  svm::enable(processor.host_save_area);
  const Frame frames = processor.root_frames;
  static_assert(sizeof(svm::SvmVp) <= LogicalProcessor::kRootHardwareSize);
  auto* root = new (processor.root_hardware()) svm::SvmVp(svm::Role::Root, frames, frames + 1, settings);
  processor.root_vmcb = frames.address();
  root->stay_loaded();
  return root;
}

std::uint64_t machine::xsave_features() { return svm::features.xcr0; }

std::size_t machine::vp_hardware_frame_count() { return svm::kFramesPerVp; }

VpHardware* machine::create_vp_hardware(std::span<const Frame> frames, const VpHardwareSettings& settings) {
  static_assert(sizeof(svm::SvmVp) <= kPageSize);
  return new (frame_pointer(frames[0])) svm::SvmVp(svm::Role::Child, frames[1], frames[2], settings);
}

void machine::destroy_vp_hardware(VpHardware& hardware) { static_cast<svm::SvmVp&>(hardware).~SvmVp(); }

}  // namespace bulkhead::hypervisor
