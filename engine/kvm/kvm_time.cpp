// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/kvm_time.hpp"

#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "engine/kvm/kvm_abi.hpp"
#include "engine/kvm/kvm_msrs.hpp"

namespace bulkhead::engine::kvm {
namespace {

constexpr std::uint64_t kNanosecondsPerUnit = 100;

kvm_device_attr counter_offset(std::uint64_t& value) {
  kvm_device_attr attribute = {};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<std::uintptr_t>(&value);
  return attribute;
}

}  // namespace

Result<FrozenTime> freeze_processor(int processor, std::uint64_t host_counter) {
  FrozenTime frozen;
  std::uint64_t offset = 0;
  const kvm_device_attr attribute = counter_offset(offset);
  if (ioctl(processor, KVM_GET_DEVICE_ATTR, &attribute) < 0) {
    return std::unexpected(Error::from_errno("cannot read the offset of a time stamp counter", errno));
  }
  frozen.counter = host_counter + offset;
  frozen.deadline = read_msr(processor, kMsrTscDeadline).value_or(0);
  kvm_lapic_state apic = {};
  if (ioctl(processor, KVM_GET_LAPIC, &apic) < 0) {
    return std::unexpected(Error::from_errno("cannot read a local APIC's timer", errno));
  }
  std::memcpy(&frozen.count, apic.regs + kApicCurrentCount, sizeof frozen.count);
  return frozen;
}

Result<> thaw_processor(int processor, const FrozenTime& frozen, std::uint64_t host_counter) {
  std::uint64_t offset = frozen.counter - host_counter;
  const kvm_device_attr attribute = counter_offset(offset);
  if (ioctl(processor, KVM_SET_DEVICE_ATTR, &attribute) < 0) {
    return std::unexpected(Error::from_errno("cannot set the offset of a time stamp counter", errno));
  }
  if (frozen.count != 0) {
    kvm_lapic_state apic = {};
    bool done = ioctl(processor, KVM_GET_LAPIC, &apic) >= 0;
    std::memcpy(apic.regs + kApicCurrentCount, &frozen.count, sizeof frozen.count);
    done = done && ioctl(processor, KVM_SET_LAPIC, &apic) >= 0;
    if (!done) return std::unexpected(Error::from_errno("cannot set a local APIC's timer", errno));
  }
  if (frozen.deadline != 0 && !write_msr(processor, {kMsrTscDeadline, frozen.deadline})) {
    return fail("cannot set the deadline of a local APIC's timer");
  }
  return {};
}

std::uint64_t counter_frequency(int processor) {
  const int kilohertz = ioctl(processor, KVM_GET_TSC_KHZ, 0);
  return kilohertz > 0 ? static_cast<std::uint64_t>(kilohertz) * 1000 : 0;
}

Result<std::uint64_t> read_reference_time(int machine) {
  kvm_clock_data clock = {};
  if (ioctl(machine, KVM_GET_CLOCK, &clock) < 0) {
    return std::unexpected(Error::from_errno("cannot read the partition's reference time", errno));
  }
  return clock.clock / kNanosecondsPerUnit;
}

Result<> set_reference_time(int machine, std::uint64_t time) {
  kvm_clock_data clock = {};
  clock.clock = time * kNanosecondsPerUnit;
  if (ioctl(machine, KVM_SET_CLOCK, &clock) < 0) {
    return std::unexpected(Error::from_errno("cannot set the partition's reference time", errno));
  }
  return {};
}

}  // namespace bulkhead::engine::kvm
