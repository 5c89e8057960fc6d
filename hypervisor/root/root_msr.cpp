// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/processor/console.hpp"
#include "hypervisor/processor/privileged.hpp"
#include "hypervisor/root/msr_policy.hpp"
#include "hypervisor/root/root_partition.hpp"

namespace bulkhead::hypervisor::root {
namespace {

constexpr std::uint32_t kApicBase = 0x1b, kInterruptCommand = 0x830, kEfer = 0xc0000080, kVmCr = 0xc0010114;
constexpr std::uint64_t kApicEnabled = 1u << 11, kApicExtended = 1u << 10;
constexpr std::uint64_t kVmCrLockedAndDisabled = (1u << 3) | (1u << 4);

bool read_emulated(VpHardware& root, std::uint32_t index, std::uint64_t& value) {
  switch (index) {
    case kEfer: value = root.get_register(abi::RegisterName::Efer)->number; return true;
    case kVmCr: value = kVmCrLockedAndDisabled; return true;
    default: return false;
  }
}

/// The base and who the boot processor is stay; between off, xAPIC and x2APIC the root may choose.
bool write_apic_base(std::uint64_t value) {
  const std::uint64_t present = privileged::read_msr(kApicBase);
  if ((present ^ value) & ~(kApicEnabled | kApicExtended)) return false;
  return privileged::try_write_msr(kApicBase, value);
}

/// Operating systems write back what the firmware left, on each processor; that needs no write.
bool write_memory_type(std::uint32_t index, std::uint64_t value) {
  std::uint64_t present = 0;
  if (!privileged::try_read_msr(index, present)) return false;
  return present == value || privileged::try_write_msr(index, value);
}

bool write_emulated(LogicalProcessor& processor, VpHardware& root, std::uint32_t index, std::uint64_t value) {
  switch (index) {
    case kEfer: return root.set_register(abi::RegisterName::Efer, numeric(value)) == HV_STATUS_SUCCESS;
    case kApicBase: return write_apic_base(value);
    case kInterruptCommand:
      send_interrupt_command(processor, static_cast<std::uint32_t>(value), static_cast<std::uint32_t>(value >> 32),
                             true);
      return true;
    default: return write_memory_type(index, value);
  }
}

}  // namespace

void handle_msr(LogicalProcessor& processor, VpHardware& root, bool write) {
  const auto index = static_cast<std::uint32_t>(root.general[1]);
  const MsrAccess access = msr_access(index, write);
  // Native ones come here too: those that the permission map has no bit for.
  bool done = false;
  if (write) {
    const std::uint64_t value = (root.general[2] << 32) | static_cast<std::uint32_t>(root.general[0]);
    done = access == MsrAccess::Native    ? privileged::try_write_msr(index, value)
           : access == MsrAccess::Emulate ? write_emulated(processor, root, index, value)
                                          : false;
  } else {
    std::uint64_t value = 0;
    done = access == MsrAccess::Native    ? privileged::try_read_msr(index, value)
           : access == MsrAccess::Emulate ? read_emulated(root, index, value)
                                          : false;
    if (done) {
      root.general[0] = static_cast<std::uint32_t>(value);
      root.general[2] = value >> 32;
    }
  }
  if (done) {
    advance(root, Exit{});
  } else {
    inject_general_protection(root);
  }
}

}  // namespace bulkhead::hypervisor::root
