// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/kvm_engine.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <future>
#include <system_error>
#include <thread>

#include "engine/file_descriptor.hpp"
#include "engine/kvm/cpuid.hpp"
#include "engine/kvm/kvm_abi.hpp"
#include "engine/kvm/kvm_host.hpp"
#include "engine/kvm/kvm_msrs.hpp"
#include "engine/kvm/kvm_partition.hpp"
#include "engine/kvm/kvm_requirements.hpp"
#include "engine/kvm/kvm_time.hpp"

namespace bulkhead::engine::kvm {
namespace {

/// Runs one HLT in a machine that nobody needs. There are kernels whose /dev/kvm makes machines but cannot enter them.
/// Gives the frequency of its processor's time stamp counter.
Result<std::uint64_t> try_guest(const FileDescriptor& machine, std::size_t run_size) {
  alignas(4096) static std::array<std::uint8_t, 4096> page = {0xf4};  // HLT
  kvm_userspace_memory_region region = {};
  region.memory_size = page.size();
  region.userspace_addr = reinterpret_cast<std::uintptr_t>(page.data());
  if (ioctl(machine.get(), KVM_SET_TSS_ADDR, kTaskStateAddress) < 0 ||
      ioctl(machine.get(), KVM_SET_USER_MEMORY_REGION, &region) < 0) {
    return std::unexpected(Error::from_errno("/dev/kvm cannot give memory to a machine", errno));
  }
  FileDescriptor processor(ioctl(machine.get(), KVM_CREATE_VCPU, 0));
  if (!processor.is_open()) return std::unexpected(Error::from_errno("/dev/kvm cannot create a processor", errno));
  const MappedMemory shared = MappedMemory::map(processor.get(), run_size);
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
  return counter_frequency(processor.get());
}

Result<FileDescriptor> make_machine(int device) {
  FileDescriptor machine(ioctl(device, KVM_CREATE_VM, 0));
  if (machine.is_open()) return machine;
  return std::unexpected(Error::from_errno("/dev/kvm cannot create a machine", errno));
}

/// Begins to make one, and returns when a thread of ours does so. Where there is no thread to be had, the machine is made
/// when it is asked for.
std::future<Result<FileDescriptor>> begin_machine(int device) {
  std::promise<void> begun;
  auto beginning = begun.get_future();
  try {
    auto machine = std::async(std::launch::async, [device, begun = std::move(begun)]() mutable {
      begun.set_value();
      return make_machine(device);
    });
    // New threads, also the kernel's that makes the machine, get a processor that is busy only when its thread waits.
    beginning.wait();
    if (std::thread::hardware_concurrency() == 1) machine.wait_for(std::chrono::milliseconds(1));
    return machine;
  } catch (const std::system_error&) {
    return std::async(std::launch::deferred, make_machine, device);
  }
}

/// Linux 6.1 makes a machine in no time but waits for all processors of the host meanwhile, about as long as a
/// guest's kernel takes to be put into its memory. So the first one begins before anybody asks.
class KvmEngine final : public Engine {
 public:
  KvmEngine(FileDescriptor device, std::shared_ptr<const KvmHost> host, Capabilities capabilities)
      : device_(std::move(device)),
        first_(begin_machine(device_.get())),
        host_(std::move(host)),
        capabilities_(std::move(capabilities)) {}

  const Capabilities& capabilities() const override { return capabilities_; }

  Result<> try_out() override {
    auto machine = new_machine();
    if (!machine) return std::unexpected(machine.error());
    const auto frequency = try_guest(*machine, host_->run_size);
    if (!frequency) return std::unexpected(frequency.error());
    capabilities_.tsc_frequency = *frequency;
    return {};
  }

  Result<std::unique_ptr<Partition>> create_partition(const PartitionSettings& settings) override {
    if (settings.vp_count == 0 || settings.vp_count > capabilities_.maximum_vps) {
      return fail(fmt::format("a machine has 1 to {} virtual processors here, not {}", capabilities_.maximum_vps,
                              settings.vp_count));
    }
    if (settings.synic && !capabilities_.synic) return fail("this kernel's KVM lacks SynICs");
    auto machine = new_machine();
    if (!machine) return std::unexpected(machine.error());
    return KvmPartition::create(std::move(*machine), settings, host_);
  }

 private:
  Result<FileDescriptor> new_machine() { return first_.valid() ? first_.get() : make_machine(device_.get()); }

  FileDescriptor device_;
  std::future<Result<FileDescriptor>> first_;
  std::shared_ptr<const KvmHost> host_;
  Capabilities capabilities_;
};

}  // namespace

Result<std::unique_ptr<Engine>> open_engine() { return open_engine_at("/dev/kvm"); }

Result<std::unique_ptr<Engine>> open_engine_at(const char* path) {
  FileDescriptor device(open(path, O_RDWR | O_CLOEXEC));
  if (!device.is_open()) return fail(explain_open_failure(path, errno, processor_virtualizes()));
  if (const int version = ioctl(device.get(), KVM_GET_API_VERSION, 0); version != KVM_API_VERSION) {
    return fail(fmt::format("{} is not KVM with interface version {}", path, KVM_API_VERSION));
  }
  const auto extension = [&](int capability) { return ioctl(device.get(), KVM_CHECK_EXTENSION, capability); };
  if (auto checked = check_requirements(extension); !checked) return std::unexpected(checked.error());
  auto cpuid = supported_cpuid(device.get());
  if (!cpuid) return std::unexpected(cpuid.error());
  auto msrs = saved_msrs(device.get());
  if (!msrs) return std::unexpected(msrs.error());
  const int run_size = ioctl(device.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_size < static_cast<int>(sizeof(kvm_run))) {
    return std::unexpected(Error::from_errno("cannot ask KVM for the size of a processor's shared state", errno));
  }
  // The guest's local APIC ids are eight bits wide, and 255 is for all.
  const int maximum = std::min(extension(KVM_CAP_MAX_VCPUS), 255);
  const bool synic = has_synic(extension), saved_state = has_saved_state(extension);
  auto host = std::make_shared<KvmHost>(KvmHost{.cpuid = std::move(*cpuid),
                                                .msrs = std::move(*msrs),
                                                .run_size = static_cast<std::size_t>(run_size),
                                                .synic = synic,
                                                .saved_state = saved_state});
  return std::make_unique<KvmEngine>(std::move(device), std::move(host),
                                     Capabilities{.name = "kvm",
                                                  .maximum_vps = static_cast<std::uint32_t>(std::max(maximum, 1)),
                                                  .tsc_frequency = 0,
                                                  .synic = synic,
                                                  .saved_state = saved_state,
                                                  .dirty_pages = true,
                                                  .reference_time = true,
                                                  .takes_memory = true});
}

}  // namespace bulkhead::engine::kvm
