// SPDX-License-Identifier: Apache-2.0
#include "engine/native/vid.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>

#include <cerrno>

#include "engine/file_descriptor.hpp"

namespace bulkhead::engine::native {
namespace {

/// An error of a request that carries the hypervisor's status.
Error refused(std::string_view attempt, int number, std::uint16_t status) {
  if (number == EIO) return Error(fmt::format("{}: the hypervisor answered with status {:#x}", attempt, status));
  return Error::from_errno(attempt, number);
}

std::string_view name_of(hv_vp_state_type type) {
  switch (type) {
    case HV_VP_STATE_LOCAL_APIC: return "the local APIC";
    case HV_VP_STATE_XSAVE: return "the extended state";
    case HV_VP_STATE_SYNTHETIC_TIMERS: return "the synthetic timers";
  }
  return "state";
}

class DeviceProcessor final : public VidProcessor {
 public:
  DeviceProcessor(FileDescriptor processor, MappedMemory pages, std::uint32_t index)
      : processor_(std::move(processor)), pages_(std::move(pages)), index_(index) {}

  abi::RegisterPage& register_page() override { return *static_cast<abi::RegisterPage*>(pages_.start()); }
  const abi::InterceptMessage& message() const override {
    return *reinterpret_cast<const abi::InterceptMessage*>(static_cast<const std::uint8_t*>(pages_.start()) +
                                                           HV_PAGE_SIZE);
  }

  Result<RunEnd> run() override {
    for (;;) {
      switch (ioctl(processor_.get(), BULKHEAD_RUN_VP, 0)) {
        case BULKHEAD_RUN_INTERCEPT: return RunEnd::Intercept;
        case BULKHEAD_RUN_CANCELLED: return RunEnd::Cancelled;
        case BULKHEAD_RUN_SUSPENDED: return RunEnd::Suspended;
        default:
          if (errno == EINTR) continue;  // a signal that is none of the engine's business
          return std::unexpected(Error::from_errno(fmt::format("cannot run virtual processor {}", index_), errno));
      }
    }
  }

  void cancel() override { ioctl(processor_.get(), BULKHEAD_CANCEL_VP, 0); }
  Result<> get_registers(std::span<hv_register_assignment> assignments) override {
    return transfer(BULKHEAD_GET_VP_REGISTERS, "read", assignments);
  }
  Result<> set_registers(std::span<hv_register_assignment> assignments) override {
    return transfer(BULKHEAD_SET_VP_REGISTERS, "set", assignments);
  }
  Result<> get_state(hv_vp_state_type type, std::span<std::uint8_t> state) override {
    return transfer(BULKHEAD_GET_VP_STATE, "read", type, state.data(), state.size());
  }
  Result<> set_state(hv_vp_state_type type, std::span<const std::uint8_t> state) override {
    return transfer(BULKHEAD_SET_VP_STATE, "set", type, state.data(), state.size());
  }

 private:
  Result<> transfer(unsigned long request, std::string_view verb, std::span<hv_register_assignment> assignments) {
    bulkhead_vp_registers argument = {};
    argument.count = static_cast<__u32>(assignments.size());
    argument.assignments = reinterpret_cast<std::uintptr_t>(assignments.data());
    if (ioctl(processor_.get(), request, &argument) >= 0) return {};
    const __u32 name = argument.done < assignments.size() ? assignments[argument.done].name : 0;
    return std::unexpected(refused(fmt::format("cannot {} register {:#x} of virtual processor {}", verb, name, index_),
                                   errno, argument.status));
  }
  Result<> transfer(unsigned long request, std::string_view verb, hv_vp_state_type type, const std::uint8_t* state,
                    std::size_t size) {
    bulkhead_vp_state argument = {};
    argument.type = type;
    argument.size = static_cast<__u32>(size);
    argument.state = reinterpret_cast<std::uintptr_t>(state);
    if (ioctl(processor_.get(), request, &argument) >= 0) return {};
    return std::unexpected(refused(fmt::format("cannot {} {} of virtual processor {}", verb, name_of(type), index_),
                                   errno, argument.status));
  }

  FileDescriptor processor_;
  MappedMemory pages_;
  std::uint32_t index_;
};

class DeviceMemory final : public VidMemory {
 public:
  explicit DeviceMemory(FileDescriptor memory) : memory_(std::move(memory)) {}
  int descriptor() const { return memory_.get(); }

 private:
  FileDescriptor memory_;
};

class DevicePartition final : public VidPartition {
 public:
  explicit DevicePartition(FileDescriptor partition) : partition_(std::move(partition)) {}

  Result<> initialize() override {
    if (ioctl(partition_.get(), BULKHEAD_INITIALIZE_PARTITION, 0) >= 0) return {};
    return std::unexpected(Error::from_errno("cannot initialize the partition", errno));
  }

  Result<> map_memory(const VidMemory& memory, std::uint32_t access, std::uint64_t gpa, std::uint64_t size) override {
    bulkhead_map_memory argument = {};
    argument.memory_fd = static_cast<__u32>(static_cast<const DeviceMemory&>(memory).descriptor());
    argument.access = access;
    argument.gpa = gpa;
    argument.size = size;
    if (ioctl(partition_.get(), BULKHEAD_MAP_MEMORY, &argument) >= 0) return {};
    return std::unexpected(
        Error::from_errno(fmt::format("cannot give {:#x} bytes of memory to the guest at {:#x}", size, gpa), errno));
  }

  Result<> unmap_memory(std::uint64_t gpa, std::uint64_t size) override {
    bulkhead_unmap_memory argument = {};
    argument.gpa = gpa;
    argument.size = size;
    if (ioctl(partition_.get(), BULKHEAD_UNMAP_MEMORY, &argument) >= 0) return {};
    return std::unexpected(
        Error::from_errno(fmt::format("cannot take {:#x} bytes of memory from the guest at {:#x}", size, gpa), errno));
  }

  Result<std::unique_ptr<VidProcessor>> create_vp(std::uint32_t index) override {
    const std::string attempt = fmt::format("cannot create virtual processor {}", index);
    bulkhead_create_vp argument = {};
    argument.vp_index = index;
    FileDescriptor processor(ioctl(partition_.get(), BULKHEAD_CREATE_VP, &argument));
    if (!processor.is_open()) return std::unexpected(Error::from_errno(attempt, errno));
    MappedMemory pages = MappedMemory::map(processor.get(), BULKHEAD_VP_MMAP_SIZE);
    if (!pages.is_mapped()) return std::unexpected(Error::from_errno(attempt, errno));
    return std::make_unique<DeviceProcessor>(std::move(processor), std::move(pages), index);
  }

  Result<> assert_interrupt(const bulkhead_assert_interrupt& interrupt) override {
    if (ioctl(partition_.get(), BULKHEAD_ASSERT_INTERRUPT, &interrupt) >= 0) return {};
    return std::unexpected(Error::from_errno(fmt::format("cannot assert interrupt {:#x}", interrupt.vector), errno));
  }

  Result<SynicStatus> post_message(const bulkhead_post_message& message) override {
    return send(BULKHEAD_POST_MESSAGE, "post a message", &message);
  }
  Result<SynicStatus> signal_event(const bulkhead_signal_event& event) override {
    return send(BULKHEAD_SIGNAL_EVENT, "signal an event", &event);
  }

  Result<> hypercall(std::uint16_t code, std::span<const std::uint8_t> input, std::span<std::uint8_t> output,
                     std::uint32_t repetitions) override {
    bulkhead_hypercall argument = {};
    argument.repetitions = repetitions;
    argument.code = code;
    argument.input_size = static_cast<__u32>(input.size());
    argument.input = reinterpret_cast<std::uintptr_t>(input.data());
    argument.output_size = static_cast<__u32>(output.size());
    argument.output = output.empty() ? 0 : reinterpret_cast<std::uintptr_t>(output.data());
    if (ioctl(partition_.get(), BULKHEAD_HYPERCALL, &argument) >= 0) return {};
    return std::unexpected(refused(fmt::format("hypercall {:#x} failed", code), errno, argument.status));
  }

 private:
  Result<SynicStatus> send(unsigned long request, std::string_view what, const void* argument) {
    if (ioctl(partition_.get(), request, argument) >= 0) return SynicStatus::Delivered;
    if (errno == EAGAIN) return SynicStatus::Busy;
    return std::unexpected(Error::from_errno(fmt::format("cannot {}", what), errno));
  }

  FileDescriptor partition_;
};

class DeviceVid final : public Vid {
 public:
  explicit DeviceVid(FileDescriptor device) : device_(std::move(device)) {}

  Result<bulkhead_information> information() override {
    bulkhead_information argument = {};
    if (ioctl(device_.get(), BULKHEAD_GET_INFORMATION, &argument) >= 0) return argument;
    if (errno == ENODEV)
      return fail("the driver is loaded, but the Bulkhead hypervisor does not run below this kernel");
    return std::unexpected(Error::from_errno("cannot ask the driver for its version", errno));
  }

  Result<std::unique_ptr<VidMemory>> create_memory(std::span<std::uint8_t> bytes, bool read_only) override {
    bulkhead_create_memory argument = {};
    argument.user_address = reinterpret_cast<std::uintptr_t>(bytes.data());
    argument.size = bytes.size();
    argument.flags = read_only ? BULKHEAD_MEMORY_READ_ONLY : 0;
    FileDescriptor memory(ioctl(device_.get(), BULKHEAD_CREATE_MEMORY, &argument));
    if (memory.is_open()) return std::make_unique<DeviceMemory>(std::move(memory));
    return std::unexpected(
        Error::from_errno(fmt::format("cannot pin {} MiB of guest memory", bytes.size() >> 20), errno));
  }

  Result<std::unique_ptr<VidPartition>> create_partition(std::uint64_t creation_flags) override {
    bulkhead_create_partition argument = {};
    argument.creation_flags = creation_flags;
    FileDescriptor partition(ioctl(device_.get(), BULKHEAD_CREATE_PARTITION, &argument));
    if (partition.is_open()) return std::make_unique<DevicePartition>(std::move(partition));
    return std::unexpected(Error::from_errno("cannot create a partition", errno));
  }

 private:
  FileDescriptor device_;
};

}  // namespace

Result<std::unique_ptr<Vid>> open_vid(const char* path) {
  FileDescriptor device(open(path, O_RDWR | O_CLOEXEC));
  if (device.is_open()) return std::make_unique<DeviceVid>(std::move(device));
  return std::unexpected(Error::from_errno(fmt::format("cannot open {}", path), errno));
}

}  // namespace bulkhead::engine::native
