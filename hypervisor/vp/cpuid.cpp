// SPDX-License-Identifier: Apache-2.0
//
// CPUID as a child sees it: the processor's own answer, cut down by one table to what a child really has; our synthetic leaves;
// and over both, what the parent registered.
#include <algorithm>
#include <array>
#include <bit>

#include "hypervisor/decode/guest_walk.hpp"
#include "hypervisor/machine.hpp"
#include "hypervisor/vp/finish_instruction.hpp"
#include "hypervisor/vp/guest_interface.hpp"

namespace bulkhead::hypervisor {
namespace {

using machine::CpuidResult;

constexpr std::uint32_t kAll = 0xffffffff;
constexpr std::uint32_t kLastBasicLeaf = 0xd;
constexpr std::uint32_t kLastExtendedLeaf = 0x8000001e;

constexpr std::uint32_t bits(std::initializer_list<unsigned> list) {
  std::uint32_t mask = 0;
  for (const unsigned bit : list) mask |= 1u << bit;
  return mask;
}

// The features of leaf 1 EDX that leaf 80000001 EDX repeats on AMD: x87, VME, DE, PSE, TSC, MSR, PAE, CX8, APIC, PGE, CMOV, PAT,
// PSE36, MMX, FXSR. No machine check and no MTRRs.
constexpr std::uint32_t kCommonFeatures = bits({0, 1, 2, 3, 4, 5, 6, 8, 9, 13, 15, 16, 17, 23, 24});

/// What is left of the processor's answer. A leaf that is not here is zero.
constexpr std::array<CpuidResult, kLastBasicLeaf + 1> kBasicLeaves = [] {
  std::array<CpuidResult, kLastBasicLeaf + 1> leaves{};
  leaves[0x0] = {kAll, kAll, kAll, kAll};
  leaves[0x1] = {kAll, 0x0000ff00,
                 // SSE3 PCLMULQDQ SSSE3 FMA CX16 PCID SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND
                 bits({0, 1, 9, 12, 13, 17, 19, 20, 22, 23, 25, 26, 28, 29, 30}),
                 kCommonFeatures | bits({11, 19, 25, 26})};  // SEP CLFLUSH SSE SSE2
  leaves[0x2] = {kAll, kAll, kAll, kAll};
  leaves[0x4] = {0x3ff, kAll, kAll, kAll};  // caches, without who shares them
  leaves[0x6] = {1 << 2, 0, 0, 0};          // the APIC timer always runs
  // Subleaf 0. FSGSBASE BMI1 AVX2 SMEP BMI2 ERMS INVPCID AVX512F/DQ RDSEED ADX SMAP IFMA CLFLUSHOPT CLWB CD SHA BW VL;
  // VBMI UMIP PKU VBMI2 GFNI VAES VPCLMULQDQ VNNI BITALG VPOPCNTDQ LA57 RDPID; FSRM
  leaves[0x7] = {0, bits({0, 3, 5, 7, 8, 9, 10, 16, 17, 18, 19, 20, 21, 23, 24, 28, 29, 30, 31}),
                 bits({1, 2, 3, 6, 8, 9, 10, 11, 12, 14, 16, 22}), bits({4})};
  leaves[0xd] = {kAll, kAll, kAll, kAll};
  return leaves;
}();

constexpr std::array<CpuidResult, (kLastExtendedLeaf & 0xff) + 1> kExtendedLeaves = [] {
  std::array<CpuidResult, (kLastExtendedLeaf & 0xff) + 1> leaves{};
  leaves[0x00] = {kAll, kAll, kAll, kAll};
  // LAHF ABM SSE4A misaligned-SSE 3DNowPrefetch XOP FMA4 TBM AltMovCr8; SYSCALL NX MMXEXT FFXSR 1GB RDTSCP LM 3DNow(ext)
  leaves[0x01] = {kAll, 0xf0000000, bits({0, 4, 5, 6, 7, 8, 11, 16, 21}),
                  kCommonFeatures | bits({11, 20, 22, 25, 26, 27, 29, 30, 31})};
  for (unsigned leaf = 0x02; leaf <= 0x06; ++leaf) leaves[leaf] = {kAll, kAll, kAll, kAll};  // brand, caches
  leaves[0x07] = {0, 0, 0, 1 << 8};              // the time stamp counter is invariant
  leaves[0x08] = {kAll, bits({0, 2, 9}), 0, 0};  // address sizes; CLZERO XSAVEERPTR WBNOINVD
  leaves[0x19] = leaves[0x1a] = {kAll, kAll, kAll, kAll};
  leaves[0x1d] = {0x3ff, kAll, kAll, kAll};
  return leaves;
}();

std::uint32_t cores_per_package(const PartitionConfiguration& configuration) {
  return std::min(configuration.vp_count, configuration.processors_per_socket);
}

/// Basic leaves that adjust_basic_leaf has something to do with.
constexpr std::uint32_t kAdjustedBasicLeaves = bits({0x1, 0x7, 0xb, 0xd});

[[gnu::always_inline]] inline void mask(CpuidResult& result, const CpuidResult& by) {
  result.eax &= by.eax;
  result.ebx &= by.ebx;
  result.ecx &= by.ecx;
  result.edx &= by.edx;
}

/// Leaf D: what of XSAVE a child may use. `xcr0` is its current choice.
void extended_state(std::uint32_t subleaf, std::uint64_t xcr0, CpuidResult& result) {
  const std::uint64_t features = machine::xsave_features();
  const auto size_of = [](std::uint64_t components) {
    std::uint32_t size = 512 + 64;
    for (std::uint64_t rest = components & ~3ull; rest; rest &= rest - 1) {
      const CpuidResult component = machine::host_cpuid(0xd, static_cast<std::uint32_t>(std::countr_zero(rest)));
      size = std::max(size, component.ebx + component.eax);
    }
    return size;
  };
  const bool is_there = subleaf <= 1 || (subleaf < 64 && (features >> subleaf & 1) != 0);
  if (features == 0 || !is_there) {
    result = {};
  } else if (subleaf == 0) {
    result = {static_cast<std::uint32_t>(features), size_of(xcr0), size_of(features),
              static_cast<std::uint32_t>(features >> 32)};
  } else if (subleaf == 1) {
    result = {result.eax & bits({0, 1, 2}), size_of(xcr0), 0, 0};  // XSAVEOPT XSAVEC XGETBV(1), no XSAVES
  }
}

}  // namespace

[[gnu::always_inline]] inline machine::CpuidResult VirtualProcessor::cpuid(std::uint32_t leaf,
                                                                           std::uint32_t subleaf) const {
  const PartitionConfiguration& configuration = partition_.configuration();
  CpuidResult result;
  if (leaf <= kLastBasicLeaf) {
    result = machine::host_cpuid(leaf, subleaf);
    mask(result, kBasicLeaves[leaf]);
    if (leaf == 0) {
      result.eax = std::min(result.eax, kLastBasicLeaf);
    } else if (kAdjustedBasicLeaves >> leaf & 1) {
      adjust_basic_leaf(leaf, subleaf, result);
    }
  } else if (leaf >= 0x80000000 && leaf <= kLastExtendedLeaf) {
    result = machine::host_cpuid(leaf, subleaf);
    mask(result, kExtendedLeaves[leaf & 0xff]);
    adjust_extended_leaf(leaf, result);
  } else if (leaf >= kHypervisorLeaves && leaf <= kLastHypervisorLeaf) {
    result = hypervisor_leaf(leaf, configuration);
  } else {
    result = {};
  }
  configuration.cpuid_results.apply(leaf, subleaf, index_, result);
  return result;
}

void VirtualProcessor::adjust_basic_leaf(std::uint32_t leaf, std::uint32_t subleaf, CpuidResult& result) const {
  const PartitionConfiguration& configuration = partition_.configuration();
  switch (leaf) {
    case 0x1: {
      result.ebx |= cores_per_package(configuration) << 16 | index_ << 24;
      result.ecx |= bits({24, 31});  // TSC deadline, hypervisor
      if (configuration.creation_flags & HV_PARTITION_CREATION_X2APIC_CAPABLE) result.ecx |= 1u << 21;
      if (machine::xsave_features() == 0) result.ecx &= ~bits({12, 26, 28, 29});
      if (hardware_.mode().cr4 & kCr4OsXsave) result.ecx |= 1u << 27;
      if (!(apic_.base() & kApicEnabled)) result.edx &= ~(1u << 9);
      if (cores_per_package(configuration) > 1) result.edx |= 1u << 28;
      break;
    }
    case 0x7:
      if (subleaf != 0) result = {};
      if ((machine::xsave_features() & 0xe0) != 0xe0) {  // AVX-512 needs its state
        result.ebx &= ~bits({16, 17, 21, 28, 30, 31});
        result.ecx &= ~bits({1, 6, 11, 12, 14});
      }
      if (!(machine::xsave_features() & 4)) {  // and so does AVX
        result.ebx &= ~bits({5});
        result.ecx &= ~bits({9, 10});
      }
      if (!(machine::xsave_features() & 1 << 9)) result.ecx &= ~(1u << 3);
      if ((result.ecx & 1u << 3) && (hardware_.mode().cr4 & kCr4ProtectionKeys)) result.ecx |= 1u << 4;
      break;
    case 0xb:  // topology: threads 1, cores all
      if (subleaf < 2) {
        const std::uint32_t count = subleaf == 0 ? 1 : cores_per_package(configuration);
        result = {std::bit_width(count - 1), count, (subleaf + 1) << 8 | subleaf, index_};
      } else {
        result = {0, 0, subleaf & 0xff, index_};
      }
      break;
    case 0xd:
      extended_state(subleaf, hardware_.get_register(abi::RegisterName::Xfem).value_or(abi::RegisterValue{}).number,
                     result);
      break;
    default: break;
  }
}

void VirtualProcessor::adjust_extended_leaf(std::uint32_t leaf, CpuidResult& result) const {
  const std::uint32_t count = cores_per_package(partition_.configuration());
  switch (leaf) {
    case 0x80000000: result.eax = std::min(result.eax, kLastExtendedLeaf); break;
    case 0x80000001:
      if (count > 1) result.ecx |= 1 << 1;  // cores of one package
      if (machine::xsave_features() == 0) result.ecx &= ~bits({11, 16});
      break;
    case 0x80000008:
      // Four levels of second-level paging reach as far as 48 bits.
      result.eax = (result.eax & 0xff00) | std::min<std::uint32_t>(result.eax & 0xff, kGuestAddressBits);
      result.ecx = (count - 1) | static_cast<std::uint32_t>(std::bit_width(count - 1)) << 12;
      break;
    default: break;
  }
}

[[gnu::noinline]] machine::CpuidResult VirtualProcessor::cpuid_values(std::uint32_t leaf, std::uint32_t subleaf) const {
  return cpuid(leaf, subleaf);
}

VirtualProcessor::Next VirtualProcessor::handle_cpuid(const Exit& exit) {
  std::uint64_t* general = hardware_.general;
  const auto leaf = static_cast<std::uint32_t>(general[0]);
  const auto subleaf = static_cast<std::uint32_t>(general[1]);
  if (partition_.configuration().intercepts.wants_cpuid(leaf)) [[unlikely]]
    return intercept_cpuid(exit, cpuid_values(leaf, subleaf));
  if (!finish_instruction(exit, Operation::Cpuid)) return Next::Prepare;
  const CpuidResult result = cpuid(leaf, subleaf);
  general[0] = result.eax;
  general[1] = result.ecx;
  general[2] = result.edx;
  general[3] = result.ebx;
  return Next::Enter;
}

}  // namespace bulkhead::hypervisor
