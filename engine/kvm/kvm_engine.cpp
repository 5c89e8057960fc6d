// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/kvm_engine.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "engine/file_descriptor.hpp"
#include "engine/kvm/cpuid.hpp"
#include "engine/kvm/kvm_abi.hpp"
#include "engine/kvm/kvm_partition.hpp"

namespace bulkhead::engine::kvm {
namespace {

struct Requirement {
  int capability;
  const char* name;
};
constexpr std::array<Requirement, 11> kRequirements = {{
    {KVM_CAP_USER_MEMORY, "memory slots"},
    {KVM_CAP_READONLY_MEM, "read-only memory"},
    {KVM_CAP_EXT_CPUID, "CPUID by table"},
    {KVM_CAP_SPLIT_IRQCHIP, "a local APIC without the rest of the interrupt controllers"},
    {KVM_CAP_IRQ_ROUTING, "interrupt routing"},
    {KVM_CAP_SIGNAL_MSI, "message-signalled interrupts"},
    {KVM_CAP_IMMEDIATE_EXIT, "immediate exits"},
    {KVM_CAP_VCPU_EVENTS, "pending events of a processor"},
    {KVM_CAP_MP_STATE, "activity states of a processor"},
    {KVM_CAP_DEBUGREGS, "debug registers"},
    {KVM_CAP_HYPERV, "the Hyper-V guest interface"},
}};

/// Runs one HLT in a throw-away guest. There are kernels whose /dev/kvm makes machines but cannot enter them.
Result<> try_guest(int device) {
  const FileDescriptor machine(ioctl(device, KVM_CREATE_VM, 0));
  if (!machine.is_open()) return std::unexpected(Error::from_errno("/dev/kvm cannot create a machine", errno));

  alignas(4096) static std::array<std::uint8_t, 4096> page = {0xf4};  // HLT
  kvm_userspace_memory_region region = {};
  region.memory_size = page.size();
  region.userspace_addr = reinterpret_cast<std::uintptr_t>(page.data());
  if (ioctl(machine.get(), KVM_SET_TSS_ADDR, kTaskStateAddress) < 0 ||
      ioctl(machine.get(), KVM_SET_USER_MEMORY_REGION, &region) < 0) {
    return std::unexpected(Error::from_errno("/dev/kvm cannot give memory to a machine", errno));
  }
  const FileDescriptor processor(ioctl(machine.get(), KVM_CREATE_VCPU, 0));
  if (!processor.is_open()) return std::unexpected(Error::from_errno("/dev/kvm cannot create a processor", errno));
  const int run_size = ioctl(device, KVM_GET_VCPU_MMAP_SIZE, 0);
  const MappedMemory shared = MappedMemory::map(processor.get(), static_cast<std::size_t>(std::max(run_size, 4096)));
  if (!shared.is_mapped())
    return std::unexpected(Error::from_errno("/dev/kvm cannot share a processor's state", errno));

  kvm_sregs special = {};
  ioctl(processor.get(), KVM_GET_SREGS, &special);
  special.cs.selector = 0;
  special.cs.base = 0;
  kvm_regs general = {};
  general.rflags = 2;
  if (ioctl(processor.get(), KVM_SET_SREGS, &special) < 0 || ioctl(processor.get(), KVM_SET_REGS, &general) < 0) {
    return std::unexpected(Error::from_errno("/dev/kvm cannot set a processor's registers", errno));
  }
  int result = 0;
  do {
    result = ioctl(processor.get(), KVM_RUN, 0);
  } while (result < 0 && errno == EINTR);
  if (result < 0) {
    return std::unexpected(Error::from_errno("/dev/kvm creates machines but cannot run them (KVM_RUN)", errno));
  }
  const auto* run = static_cast<const kvm_run*>(shared.start());
  if (run->exit_reason != KVM_EXIT_HLT) {
    return fail(
        fmt::format("/dev/kvm creates machines but cannot run them (KVM_RUN: exit reason {})", run->exit_reason));
  }
  return {};
}

class KvmEngine final : public Engine {
 public:
  KvmEngine(FileDescriptor device, std::vector<kvm_cpuid_entry2> cpuid, Capabilities capabilities)
      : device_(std::move(device)), cpuid_(std::move(cpuid)), capabilities_(std::move(capabilities)) {}

  const Capabilities& capabilities() const override { return capabilities_; }

  Result<std::unique_ptr<Partition>> create_partition(const PartitionSettings& settings) override {
    if (settings.vp_count == 0 || settings.vp_count > capabilities_.maximum_vps) {
      return fail(fmt::format("a machine has 1 to {} virtual processors here, not {}", capabilities_.maximum_vps,
                              settings.vp_count));
    }
    if (settings.synic && !capabilities_.synic) return fail("this kernel's KVM lacks SynICs");
    return KvmPartition::create(device_.get(), settings, cpuid_);
  }

 private:
  FileDescriptor device_;
  std::vector<kvm_cpuid_entry2> cpuid_;
  Capabilities capabilities_;
};

/// The frequency of a new processor's time stamp counter in Hz, 0 if the kernel does not know it.
std::uint64_t guest_tsc_frequency(int device) {
  const FileDescriptor machine(ioctl(device, KVM_CREATE_VM, 0));
  if (!machine.is_open()) return 0;
  const FileDescriptor processor(ioctl(machine.get(), KVM_CREATE_VCPU, 0));
  if (!processor.is_open()) return 0;
  const int kilohertz = ioctl(processor.get(), KVM_GET_TSC_KHZ, 0);
  return kilohertz > 0 ? static_cast<std::uint64_t>(kilohertz) * 1000 : 0;
}

/// Everything that KvmSynic needs of the kernel.
bool has_synic(int device) {
  const auto has = [&](int capability) { return ioctl(device, KVM_CHECK_EXTENSION, capability) > 0; };
  return has(KVM_CAP_HYPERV_SYNIC2) && has(KVM_CAP_X86_USER_SPACE_MSR) && has(KVM_CAP_X86_MSR_FILTER);
}

}  // namespace

Result<std::unique_ptr<Engine>> open_engine() { return open_engine_at("/dev/kvm"); }

Result<std::unique_ptr<Engine>> open_engine_at(const char* path) {
  FileDescriptor device(open(path, O_RDWR | O_CLOEXEC));
  if (!device.is_open()) return std::unexpected(Error::from_errno(fmt::format("cannot open {}", path), errno));
  if (const int version = ioctl(device.get(), KVM_GET_API_VERSION, 0); version != KVM_API_VERSION) {
    return fail(fmt::format("{} is not KVM with interface version {}", path, KVM_API_VERSION));
  }
  if (auto tried = try_guest(device.get()); !tried) return std::unexpected(tried.error());
  for (const auto& requirement : kRequirements) {
    if (ioctl(device.get(), KVM_CHECK_EXTENSION, requirement.capability) <= 0) {
      return fail(fmt::format("this kernel's KVM lacks {}", requirement.name));
    }
  }
  auto cpuid = supported_cpuid(device.get());
  if (!cpuid) return std::unexpected(cpuid.error());
  // The guest's local APIC ids are eight bits wide, and 255 is for all.
  const int maximum = std::min(ioctl(device.get(), KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS), 255);
  Capabilities capabilities{.name = "kvm",
                            .maximum_vps = static_cast<std::uint32_t>(std::max(maximum, 1)),
                            .tsc_frequency = guest_tsc_frequency(device.get()),
                            .synic = has_synic(device.get())};
  return std::make_unique<KvmEngine>(std::move(device), std::move(*cpuid), std::move(capabilities));
}

}  // namespace bulkhead::engine::kvm
