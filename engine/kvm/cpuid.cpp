// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/cpuid.hpp"

#include <sys/ioctl.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "abi/hypervisor_leaves.hpp"

namespace bulkhead::engine::kvm {
namespace {

constexpr std::uint32_t bit(unsigned number) { return 1u << number; }

// Leaf 1.
constexpr std::uint32_t kEcxVmx = bit(5), kEcxX2apic = bit(21), kEcxTscDeadline = bit(24), kEcxHypervisor = bit(31);
constexpr std::uint32_t kEdxMultipleProcessors = bit(28);
// Leaf 80000001.
constexpr std::uint32_t kEcxCmpLegacy = bit(1), kEcxSvm = bit(2);

/// The room of at most `capacity` entries that KVM wants behind its header.
class CpuidBuffer {
 public:
  explicit CpuidBuffer(std::uint32_t capacity) : storage_(sizeof(kvm_cpuid2) + capacity * sizeof(kvm_cpuid_entry2)) {
    table()->nent = capacity;
  }
  kvm_cpuid2* table() { return reinterpret_cast<kvm_cpuid2*>(storage_.data()); }

 private:
  std::vector<std::uint8_t> storage_;
};

/// Bits of an APIC id that number the processors of a socket of `vp_count`.
unsigned id_bits(std::uint32_t vp_count) { return static_cast<unsigned>(std::bit_width(vp_count - 1)); }

void set_topology_leaf(std::vector<kvm_cpuid_entry2>& table, std::uint32_t vp, std::uint32_t vp_count) {
  constexpr std::uint32_t kThread = 1u << 8, kCore = 2u << 8;
  const auto level = [&](std::uint32_t index, std::uint32_t shift, std::uint32_t count, std::uint32_t type) {
    kvm_cpuid_entry2 entry = {};
    entry.function = 0xb;
    entry.index = index;
    entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    entry.eax = shift;
    entry.ebx = count;
    entry.ecx = index | type;
    entry.edx = vp;
    table.push_back(entry);
  };
  level(0, 0, 1, kThread);
  level(1, id_bits(vp_count), vp_count, kCore);
  level(2, 0, 0, 0);
}

/// The leaf of KVM's Hyper-V interface, all zeros if the kernel does not tell it.
kvm_cpuid_entry2 interface_leaf(const std::vector<kvm_cpuid_entry2>& supported, std::uint32_t function) {
  const auto found = std::ranges::find_if(supported, [&](const auto& entry) { return entry.function == function; });
  return found == supported.end() ? kvm_cpuid_entry2{} : *found;
}

/// TLFS, "Hypervisor CPUID Leaves": what both engines offer, as far as this kernel has it. Not taken from the kernel as it is, since
/// that would also offer what means nothing here, and what no guest has been tried with.
void add_hypervisor_leaves(std::vector<kvm_cpuid_entry2>& table, const std::vector<kvm_cpuid_entry2>& supported,
                           const GuestCpuid& guest) {
  using namespace abi::leaves;
  // A kernel has had these since it has had the interface at all.
  constexpr std::uint32_t kAlways = kReferenceCounter | kHypercallMsrs | kVpIndex | kReferenceTsc | kFrequencyMsrs;
  const kvm_cpuid_entry2 features = interface_leaf(supported, 0x40000003);
  const kvm_cpuid_entry2 hints = interface_leaf(supported, 0x40000004);
  const std::uint32_t with_synic = guest.synic ? kSynicMsrs | kSyntheticTimers : 0;
  const auto leaf = [&](std::uint32_t function, std::uint32_t eax, std::uint32_t ebx, std::uint32_t ecx,
                        std::uint32_t edx) {
    kvm_cpuid_entry2 entry = {};
    entry.function = function;
    entry.eax = eax;
    entry.ebx = ebx;
    entry.ecx = ecx;
    entry.edx = edx;
    table.push_back(entry);
  };
  leaf(0x40000000, 0x40000006, kVendor[0], kVendor[1], kVendor[2]);
  leaf(0x40000001, kInterface, 0, 0, 0);
  leaf(0x40000002, 0, 0, 0, 0);
  // The crash registers need the same filter as the SynIC.
  leaf(0x40000003, kAlways | (features.eax & (kReset | kApicMsrs | with_synic)),
       guest.connections ? kPostMessages | kSignalEvents : 0, 0,
       kFrequencyMsrsAreThere |
           (features.edx & (kXmmHypercallInput | (guest.synic ? kCrashMsrs | kDirectSyntheticTimers : 0))));
  leaf(0x40000004,
       kRelaxedTiming | (guest.synic ? kDeprecateAutoEoi : 0) |
           (hints.eax & (kRemoteFlush | kUseApicMsrs | kClusterIpi | kExtendedProcessorMasks)),
       // The kernel takes the call, and leaves the number to us.
       hints.function != 0 ? kSpinsBeforeCall : kNeverCall, 0, 0);
  leaf(0x40000005, guest.vp_count, guest.vp_count, 0, 0);
  leaf(0x40000006, 0, 0, 0, 0);
}

void adapt(kvm_cpuid_entry2& entry, std::uint32_t vp, std::uint32_t vp_count) {
  const std::uint32_t cores = vp_count - 1;
  switch (entry.function) {
    case 0x1:
      entry.ebx = (entry.ebx & 0xffff) | std::min(vp_count, 255u) << 16 | vp << 24;
      entry.ecx = (entry.ecx & ~kEcxVmx) | kEcxHypervisor;
      entry.edx = vp_count > 1 ? entry.edx | kEdxMultipleProcessors : entry.edx & ~kEdxMultipleProcessors;
      break;
    case 0x4:  // caches: levels 1 and 2 are a core's, level 3 is the socket's
      if ((entry.eax & 0x1f) != 0) {
        const std::uint32_t sharing = ((entry.eax >> 5) & 7) == 3 ? cores : 0;
        entry.eax = (entry.eax & 0x3fff) | sharing << 14 | std::min(cores, 63u) << 26;
      }
      break;
    case 0xa:  // no performance counters
      entry.eax = entry.ebx = entry.ecx = entry.edx = 0;
      break;
    case 0x80000001:
      entry.ecx = vp_count > 1 ? (entry.ecx & ~kEcxSvm) | kEcxCmpLegacy : entry.ecx & ~(kEcxSvm | kEcxCmpLegacy);
      break;
    case 0x80000008: entry.ecx = (entry.ecx & ~0xf0ffu) | std::min(cores, 255u) | id_bits(vp_count) << 12; break;
    case 0x8000001d:
      if ((entry.eax & 0x1f) != 0) {
        const std::uint32_t sharing = ((entry.eax >> 5) & 7) == 3 ? cores : 0;
        entry.eax = (entry.eax & 0x3fff) | sharing << 14;
      }
      break;
    case 0x8000001e:  // APIC id, core number, node
      entry.eax = vp;
      entry.ebx = vp;
      entry.ecx = 0;
      entry.edx = 0;
      break;
    default: break;
  }
}

bool is_hypervisor_leaf(std::uint32_t function) { return (function >> 28) == 4; }

/// Leaves that are replaced, or that tell of what a guest has not.
bool is_dropped(std::uint32_t function) {
  return function == 0xb || function == 0x1f || function == 0x8000000a || is_hypervisor_leaf(function);
}

Result<std::vector<kvm_cpuid_entry2>> ask_for_table(int device, unsigned long request) {
  for (std::uint32_t capacity = 128; capacity <= 4096; capacity *= 2) {
    CpuidBuffer buffer(capacity);
    if (ioctl(device, request, buffer.table()) >= 0) {
      return std::vector<kvm_cpuid_entry2>(buffer.table()->entries, buffer.table()->entries + buffer.table()->nent);
    }
    if (errno != E2BIG) return std::unexpected(Error::from_errno("cannot ask KVM for the processor's features", errno));
  }
  return fail("KVM has more CPUID leaves than expected");
}

}  // namespace

Result<std::vector<kvm_cpuid_entry2>> supported_cpuid(int device) {
  auto entries = ask_for_table(device, KVM_GET_SUPPORTED_CPUID);
  if (!entries) return std::unexpected(entries.error());
  const bool deadline = ioctl(device, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
  for (auto& entry : *entries) {
    // Both belong to the local APIC in the kernel, which KVM does not presume to be used when it is asked here.
    if (entry.function == 1) entry.ecx |= kEcxX2apic | (deadline ? kEcxTscDeadline : 0);
  }
  std::erase_if(*entries, [](const auto& entry) { return is_hypervisor_leaf(entry.function); });
  if (ioctl(device, KVM_CHECK_EXTENSION, KVM_CAP_SYS_HYPERV_CPUID) <= 0) return entries;
  auto interface = ask_for_table(device, KVM_GET_SUPPORTED_HV_CPUID);
  if (!interface) return std::unexpected(interface.error());
  entries->insert(entries->end(), interface->begin(), interface->end());
  return entries;
}

std::vector<kvm_cpuid_entry2> guest_cpuid(const std::vector<kvm_cpuid_entry2>& supported, const GuestCpuid& guest) {
  std::vector<kvm_cpuid_entry2> table;
  for (kvm_cpuid_entry2 entry : supported) {
    if (is_dropped(entry.function)) continue;
    adapt(entry, guest.vp, guest.vp_count);
    table.push_back(entry);
  }
  const bool has_topology =
      std::ranges::any_of(supported, [](const auto& e) { return e.function == 0 && e.eax >= 0xb; });
  if (has_topology) set_topology_leaf(table, guest.vp, guest.vp_count);
  add_hypervisor_leaves(table, supported, guest);
  return table;
}

}  // namespace bulkhead::engine::kvm
