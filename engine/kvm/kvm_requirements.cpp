// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/kvm_requirements.hpp"

#include <cpuid.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "engine/kvm/kvm_abi.hpp"

namespace bulkhead::engine::kvm {
namespace {

struct Requirement {
  int capability;
  const char* name;
  const char* where;  // it is to be had
};
constexpr std::array kRequirements = {
    Requirement{KVM_CAP_USER_MEMORY, "memory slots", "Linux 2.6.25"},
    Requirement{KVM_CAP_EXT_CPUID, "CPUID by table", "Linux 2.6.26"},
    Requirement{KVM_CAP_MP_STATE, "activity states of a processor", "Linux 2.6.26"},
    Requirement{KVM_CAP_IRQ_ROUTING, "interrupt routing", "Linux 2.6.30"},
    Requirement{KVM_CAP_VCPU_EVENTS, "pending events of a processor", "Linux 2.6.33"},
    Requirement{KVM_CAP_DEBUGREGS, "debug registers", "Linux 2.6.35"},
    Requirement{KVM_CAP_XSAVE, "a processor's extended state", "Linux 2.6.36"},
    Requirement{KVM_CAP_READONLY_MEM, "read-only memory", "Linux 3.7"},
    Requirement{KVM_CAP_SIGNAL_MSI, "message-signalled interrupts", "Linux 3.5"},
    Requirement{KVM_CAP_SPLIT_IRQCHIP, "a local APIC without the other interrupt controllers", "Linux 4.4"},
    Requirement{KVM_CAP_IMMEDIATE_EXIT, "immediate exits", "Linux 4.13"},
    Requirement{KVM_CAP_HYPERV, "the Hyper-V guest interface", "a kernel with CONFIG_KVM_HYPERV"},
    Requirement{KVM_CAP_HYPERV_TIME, "Hyper-V's reference time", "a kernel with CONFIG_KVM_HYPERV"},
};

bool has_all(const ExtensionCheck& extension, std::initializer_list<int> capabilities) {
  return std::ranges::all_of(capabilities, [&](int capability) { return extension(capability) > 0; });
}

}  // namespace

Result<> check_requirements(const ExtensionCheck& extension) {
  for (const auto& requirement : kRequirements) {
    if (extension(requirement.capability) > 0) continue;
    return fail(fmt::format("this kernel's KVM lacks {}; {} has it", requirement.name, requirement.where));
  }
  return {};
}

bool has_synic(const ExtensionCheck& extension) {
  return has_all(extension,
                 {KVM_CAP_HYPERV_SYNIC2, KVM_CAP_SYS_HYPERV_CPUID, KVM_CAP_X86_USER_SPACE_MSR, KVM_CAP_X86_MSR_FILTER});
}

bool has_saved_state(const ExtensionCheck& extension) {
  // A kernel whose clock can go by the time of day also lets the offset of a time stamp counter be set, by which time is
  // stopped: both came with Linux 5.16.
  return has_all(extension, {KVM_CAP_XCRS, KVM_CAP_XSAVE}) &&
         (extension(KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_REALTIME) != 0;
}

std::string explain_open_failure(std::string_view path, int error, bool virtualizes) {
  std::string explanation = Error::from_errno(fmt::format("cannot open {}", path), error).message();
  if (error == EACCES || error == EPERM) return explanation + "; members of the group kvm may";
  if (error != ENOENT && error != ENODEV && error != ENXIO) return explanation;
  if (!virtualizes) {
    return explanation + "; this processor offers neither SVM nor VMX here, or the firmware has switched it off";
  }
  return explanation + "; the kernel's module kvm-amd or kvm-intel is not loaded";
}

bool processor_virtualizes() {
  constexpr unsigned kVmx = 1u << 5, kSvm = 1u << 2;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & kVmx) != 0) return true;
  return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) != 0 && (ecx & kSvm) != 0;
}

}  // namespace bulkhead::engine::kvm
