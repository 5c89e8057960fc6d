// SPDX-License-Identifier: Apache-2.0
#include "bench/exit_cost/kvm_host.hpp"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdio>
#include <thread>

namespace bulkhead::bench {
namespace {

constexpr std::uint64_t kPageSize = 4096;

std::span<std::uint8_t> allocate(std::size_t size) {
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  return memory == MAP_FAILED ? std::span<std::uint8_t>() : std::span(static_cast<std::uint8_t*>(memory), size);
}

// In C++ the header's kvm_cpuid2 is 4 bytes too long, and with it the numbers of the calls are wrong.
struct CpuidTable {
  std::uint32_t count;
  std::uint32_t padding;
  std::array<kvm_cpuid_entry2, 256> entries;
};
constexpr unsigned long kGetSupportedCpuid = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, 8);
constexpr unsigned long kSetCpuid = _IOC(_IOC_WRITE, KVMIO, 0x90, 8);

/// One virtual processor: its descriptor and the page that the kernel shares.
struct Processor {
  int descriptor = -1;
  kvm_run* run = nullptr;

  bool create(int kvm, int machine, std::uint32_t index) {
    descriptor = ::ioctl(machine, KVM_CREATE_VCPU, index);
    const int size = ::ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (descriptor < 0 || size < 0) return false;
    void* shared = ::mmap(nullptr, static_cast<std::size_t>(size), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    run = static_cast<kvm_run*>(shared);
    return shared != MAP_FAILED && identify(kvm, index);
  }

  /// All that KVM supports, and the processor's own APIC id.
  bool identify(int kvm, std::uint32_t index) const {
    auto table = std::make_unique<CpuidTable>();
    table->count = table->entries.size();
    if (::ioctl(kvm, kGetSupportedCpuid, table.get()) != 0) return false;
    for (kvm_cpuid_entry2& entry : std::span(table->entries).first(table->count)) {
      if (entry.function == 1) entry.ebx = (entry.ebx & 0x00ffffff) | index << 24;
    }
    return ::ioctl(descriptor, kSetCpuid, table.get()) == 0;
  }
};

class KvmHost final : public Host {
 public:
  bool start() {
    kvm_ = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
    machine_ = kvm_ < 0 ? -1 : ::ioctl(kvm_, KVM_CREATE_VM, 0);
    if (machine_ < 0) return false;
    kvm_enable_cap split = {};
    split.cap = KVM_CAP_SPLIT_IRQCHIP;
    split.args[0] = 24;
    if (::ioctl(machine_, KVM_ENABLE_CAP, &split) != 0) return false;
    memory_ = allocate(kMemorySize);
    const auto reset_page = allocate(kPageSize);
    if (memory_.empty() || reset_page.empty()) return false;
    load_guest(memory_, reset_page);
    if (!map(0, 0, memory_) || !map(1, kResetPage, reset_page)) return false;
    for (std::uint32_t i = 0; i < kProcessors; ++i) {
      if (!processors_[i].create(kvm_, machine_, i)) return false;
    }
    // Ends with the process: nothing in the guest's processor 1 comes to user mode.
    std::thread([this] {
      while (::ioctl(processors_[1].descriptor, KVM_RUN, 0) == 0 || errno == EAGAIN || errno == EINTR) {
      }
    }).detach();
    return true;
  }

  std::span<std::uint8_t> memory() override { return memory_; }

  bool run_to_end() override {
    const Processor& processor = processors_[0];
    for (;;) {
      if (::ioctl(processor.descriptor, KVM_RUN, 0) != 0) {
        std::perror("KVM_RUN");
        return false;
      }
      switch (processor.run->exit_reason) {
        case KVM_EXIT_IO:
          if (processor.run->io.port == kEndPort) return true;
          break;
        case KVM_EXIT_MMIO: std::memset(processor.run->mmio.data, 0, sizeof(processor.run->mmio.data)); break;
        default: std::fprintf(stderr, "KVM_RUN ended with exit %u\n", processor.run->exit_reason); return false;
      }
    }
  }

 private:
  bool map(std::uint32_t slot, std::uint64_t base, std::span<std::uint8_t> bytes) const {
    kvm_userspace_memory_region region = {};
    region.slot = slot;
    region.guest_phys_addr = base;
    region.memory_size = bytes.size();
    region.userspace_addr = reinterpret_cast<std::uintptr_t>(bytes.data());
    return ::ioctl(machine_, KVM_SET_USER_MEMORY_REGION, &region) == 0;
  }

  int kvm_ = -1;
  int machine_ = -1;
  std::span<std::uint8_t> memory_;
  std::array<Processor, kProcessors> processors_;
};

}  // namespace

std::unique_ptr<Host> create_kvm_host() {
  auto host = std::make_unique<KvmHost>();
  if (host->start()) return host;
  std::perror("/dev/kvm");
  return nullptr;
}

}  // namespace bulkhead::bench
