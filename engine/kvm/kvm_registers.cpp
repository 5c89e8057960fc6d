// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/kvm_registers.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "engine/kvm/kvm_abi.hpp"

namespace bulkhead::engine::kvm {
namespace {

using abi::RegisterName;
using abi::RegisterValue;

constexpr std::uint32_t number_of(RegisterName name) { return static_cast<std::uint32_t>(name); }
constexpr bool is_within(RegisterName name, RegisterName first, RegisterName last) {
  return number_of(name) >= number_of(first) && number_of(name) <= number_of(last);
}
constexpr std::uint32_t offset_from(RegisterName name, RegisterName first) {
  return number_of(name) - number_of(first);
}

/// The group of registers that one pair of KVM's calls transfers.
template <typename Group, unsigned long kGet, unsigned long kSet>
class Lazy {
 public:
  explicit Lazy(const char* name) : name_(name) {}

  Result<Group*> use(int processor, bool for_write) {
    if (!loaded_ && ioctl(processor, kGet, &group_) < 0) {
      return std::unexpected(Error::from_errno(fmt::format("cannot read the {}", name_), errno));
    }
    loaded_ = true;
    dirty_ |= for_write;
    return &group_;
  }
  Result<> store(int processor) {
    if (dirty_ && ioctl(processor, kSet, &group_) < 0) {
      return std::unexpected(Error::from_errno(fmt::format("cannot set the {}", name_), errno));
    }
    dirty_ = false;
    return {};
  }

 private:
  const char* name_;
  Group group_ = {};
  bool loaded_ = false;
  bool dirty_ = false;
};

RegisterValue from_number(std::uint64_t number) {
  RegisterValue value = {};
  value.number = number;
  return value;
}

RegisterValue from_segment(const kvm_segment& from) {
  RegisterValue value = {};
  value.segment.base = from.base;
  value.segment.limit = from.limit;
  value.segment.selector = from.selector;
  value.segment.attributes =
      static_cast<std::uint16_t>((from.type & 0xf) | (from.s & 1) << 4 | (from.dpl & 3) << 5 | (from.present & 1) << 7 |
                                 (from.avl & 1) << 12 | (from.l & 1) << 13 | (from.db & 1) << 14 | (from.g & 1) << 15);
  return value;
}

kvm_segment to_segment(const abi::SegmentRegister& from) {
  const auto bits = [&](unsigned shift, unsigned mask) { return static_cast<__u8>((from.attributes >> shift) & mask); };
  kvm_segment to = {};
  to.base = from.base;
  to.limit = from.limit;
  to.selector = from.selector;
  to.type = bits(0, 0xf);
  to.s = bits(4, 1);
  to.dpl = bits(5, 3);
  to.present = bits(7, 1);
  to.avl = bits(12, 1);
  to.l = bits(13, 1);
  to.db = bits(14, 1);
  to.g = bits(15, 1);
  to.unusable = !to.present;
  return to;
}

/// Reads or writes (`write`) one register at a time in the groups. What is written reaches the processor in `store`.
class Bank {
 public:
  explicit Bank(int processor) : processor_(processor) {}

  Result<> transfer(RegisterName name, RegisterValue& value, bool write);
  Result<> store();

 private:
  /// A 64-bit place in one of the groups.
  Result<__u64*> number(RegisterName name, bool write);
  static __u64* general(kvm_regs& registers, RegisterName name);
  static kvm_segment& segment(kvm_sregs& special, RegisterName name);
  Result<> transfer_msr(std::uint32_t msr, RegisterValue& value, bool write);
  Result<> transfer_floating_point(RegisterName name, RegisterValue& value, bool write);
  Result<> transfer_pending(RegisterName name, RegisterValue& value, bool write);
  Result<> transfer_activity(RegisterValue& value, bool write);

  int processor_;
  Lazy<kvm_regs, KVM_GET_REGS, KVM_SET_REGS> general_{"general registers"};
  Lazy<kvm_sregs, KVM_GET_SREGS, KVM_SET_SREGS> special_{"segment and control registers"};
  Lazy<kvm_debugregs, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS> debug_{"debug registers"};
  Lazy<kvm_fpu, KVM_GET_FPU, KVM_SET_FPU> floating_point_{"floating-point registers"};
  Lazy<kvm_mp_state, KVM_GET_MP_STATE, KVM_SET_MP_STATE> activity_{"activity state"};
  Lazy<kvm_vcpu_events, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS> events_{"pending events"};
};

__u64* Bank::general(kvm_regs& registers, RegisterName name) {
  // TLFS numbers them as the processor encodes them.
  const std::array<__u64*, 18> places = {
      &registers.rax, &registers.rcx, &registers.rdx, &registers.rbx, &registers.rsp, &registers.rbp,
      &registers.rsi, &registers.rdi, &registers.r8,  &registers.r9,  &registers.r10, &registers.r11,
      &registers.r12, &registers.r13, &registers.r14, &registers.r15, &registers.rip, &registers.rflags};
  return places[offset_from(name, RegisterName::Rax)];
}

kvm_segment& Bank::segment(kvm_sregs& special, RegisterName name) {
  const std::array<kvm_segment*, 8> places = {&special.es, &special.cs, &special.ss,  &special.ds,
                                              &special.fs, &special.gs, &special.ldt, &special.tr};
  return *places[offset_from(name, RegisterName::Es)];
}

Result<__u64*> Bank::number(RegisterName name, bool write) {
  if (is_within(name, RegisterName::Rax, RegisterName::Rflags)) {
    auto group = general_.use(processor_, write);
    if (!group) return std::unexpected(group.error());
    return general(**group, name);
  }
  if (is_within(name, RegisterName::Dr0, RegisterName::Dr7)) {
    auto group = debug_.use(processor_, write);
    if (!group) return std::unexpected(group.error());
    if (name == RegisterName::Dr6) return &(*group)->dr6;
    if (name == RegisterName::Dr7) return &(*group)->dr7;
    return &(*group)->db[offset_from(name, RegisterName::Dr0)];
  }
  auto special = special_.use(processor_, write);
  if (!special) return std::unexpected(special.error());
  switch (name) {
    case RegisterName::Cr0: return &(*special)->cr0;
    case RegisterName::Cr2: return &(*special)->cr2;
    case RegisterName::Cr3: return &(*special)->cr3;
    case RegisterName::Cr4: return &(*special)->cr4;
    case RegisterName::Cr8: return &(*special)->cr8;
    case RegisterName::Efer: return &(*special)->efer;
    case RegisterName::ApicBase: return &(*special)->apic_base;
    default: return nullptr;
  }
}

std::optional<std::uint32_t> msr_of(RegisterName name) {
  switch (name) {
    case RegisterName::Tsc: return 0x10;
    case RegisterName::TscAdjust: return 0x3b;
    case RegisterName::SpecCtrl: return 0x48;
    case RegisterName::SysenterCs: return 0x174;
    case RegisterName::SysenterEsp: return 0x175;
    case RegisterName::SysenterEip: return 0x176;
    case RegisterName::Pat: return 0x277;
    case RegisterName::TscDeadline: return 0x6e0;
    case RegisterName::Star: return 0xc0000081;
    case RegisterName::Lstar: return 0xc0000082;
    case RegisterName::Cstar: return 0xc0000083;
    case RegisterName::Sfmask: return 0xc0000084;
    case RegisterName::KernelGsBase: return 0xc0000102;
    case RegisterName::TscAux: return 0xc0000103;
    case RegisterName::GuestOsId: return 0x40000000;
    case RegisterName::HypercallPage: return 0x40000001;
    case RegisterName::VpIndex: return 0x40000002;
    case RegisterName::TimeReferenceCount: return 0x40000020;
    case RegisterName::ReferenceTsc: return 0x40000021;
    default: return std::nullopt;
  }
}

Result<> Bank::transfer_msr(std::uint32_t msr, RegisterValue& value, bool write) {
  alignas(kvm_msrs) std::array<std::uint8_t, sizeof(kvm_msrs) + sizeof(kvm_msr_entry)> storage = {};
  auto* list = reinterpret_cast<kvm_msrs*>(storage.data());
  list->nmsrs = 1;
  list->entries[0].index = msr;
  list->entries[0].data = value.number;
  if (ioctl(processor_, write ? KVM_SET_MSRS : KVM_GET_MSRS, list) != 1) {
    return fail(fmt::format("KVM refuses to {} MSR {:#x}", write ? "set" : "read", msr));
  }
  if (!write) value = from_number(list->entries[0].data);
  return {};
}

Result<> Bank::transfer_floating_point(RegisterName name, RegisterValue& value, bool write) {
  auto used = floating_point_.use(processor_, write);
  if (!used) return std::unexpected(used.error());
  kvm_fpu& group = **used;
  if (is_within(name, RegisterName::Xmm0, RegisterName::FpMmx7)) {
    auto* place = is_within(name, RegisterName::Xmm0, RegisterName::Xmm15)
                      ? group.xmm[offset_from(name, RegisterName::Xmm0)]
                      : group.fpr[offset_from(name, RegisterName::FpMmx0)];
    if (write) {
      std::memcpy(place, &value, sizeof(value));
    } else {
      std::memcpy(&value, place, sizeof(value));
    }
    return {};
  }
  // TLFS, "HV_X64_FP_CONTROL_STATUS_REGISTER" and "HV_X64_XMM_CONTROL_STATUS_REGISTER".
  hv_register_value& raw = value.raw;
  if (name == RegisterName::FpControlStatus && write) {
    group.fcw = static_cast<__u16>(raw.low);
    group.fsw = static_cast<__u16>(raw.low >> 16);
    group.ftwx = static_cast<__u8>(raw.low >> 32);
    group.last_opcode = static_cast<__u16>(raw.low >> 48);
    group.last_ip = raw.high;
  } else if (name == RegisterName::FpControlStatus) {
    raw.low = group.fcw | std::uint64_t{group.fsw} << 16 | std::uint64_t{group.ftwx} << 32 |
              std::uint64_t{group.last_opcode} << 48;
    raw.high = group.last_ip;
  } else if (write) {
    group.last_dp = raw.low;
    group.mxcsr = static_cast<__u32>(raw.high);
  } else {
    raw.low = group.last_dp;
    raw.high = group.mxcsr | 0xffffull << 32;
  }
  return {};
}

/// PendingInterruption and InterruptState, whose layouts are in abi/register.hpp.
Result<> Bank::transfer_pending(RegisterName name, RegisterValue& value, bool write) {
  auto used = events_.use(processor_, write);
  if (!used) return std::unexpected(used.error());
  kvm_vcpu_events& events = **used;
  if (name == RegisterName::InterruptState) {
    if (write) {
      events.flags |= KVM_VCPUEVENT_VALID_SHADOW;
      events.interrupt.shadow =
          (value.number & abi::kInterruptShadow) ? KVM_X86_SHADOW_INT_STI | KVM_X86_SHADOW_INT_MOV_SS : 0;
      events.nmi.masked = (value.number & abi::kNmiMasked) != 0;
    } else {
      value = from_number((events.interrupt.shadow ? abi::kInterruptShadow : 0) |
                          (events.nmi.masked ? abi::kNmiMasked : 0));
    }
    return {};
  }
  if (!write) {
    const auto pending = [](abi::InterruptionType type, std::uint64_t vector) {
      return 1 | std::uint64_t{static_cast<std::uint8_t>(type)} << 1 | vector << 16;
    };
    std::uint64_t number = 0;
    if (events.exception.injected) {
      number = pending(abi::InterruptionType::Exception, events.exception.nr);
      if (events.exception.has_error_code) number |= 1u << 4 | std::uint64_t{events.exception.error_code} << 32;
    } else if (events.nmi.injected) {
      number = pending(abi::InterruptionType::Nmi, 2);
    } else if (events.interrupt.injected) {
      number =
          pending(events.interrupt.soft ? abi::InterruptionType::SoftwareInterrupt : abi::InterruptionType::External,
                  events.interrupt.nr);
    }
    value = from_number(number);
    return {};
  }
  const bool pending = value.number & 1;
  const auto type = static_cast<abi::InterruptionType>((value.number >> 1) & 7);
  const auto vector = static_cast<__u8>(value.number >> 16);
  events.exception = {};
  events.exception.injected = pending && type == abi::InterruptionType::Exception;
  events.exception.nr = vector;
  events.exception.has_error_code = (value.number >> 4) & 1;
  events.exception.error_code = static_cast<__u32>(value.number >> 32);
  events.nmi.injected = pending && type == abi::InterruptionType::Nmi;
  events.interrupt.soft = type == abi::InterruptionType::SoftwareInterrupt;
  events.interrupt.injected = pending && (type == abi::InterruptionType::External || events.interrupt.soft);
  events.interrupt.nr = vector;
  return {};
}

Result<> Bank::transfer_activity(RegisterValue& value, bool write) {
  constexpr std::uint64_t kWaitForSipi = 1, kHalted = 2;
  auto used = activity_.use(processor_, write);
  if (!used) return std::unexpected(used.error());
  kvm_mp_state& state = **used;
  if (write) {
    state.mp_state = (value.number & kWaitForSipi) ? KVM_MP_STATE_UNINITIALIZED
                     : (value.number & kHalted)    ? KVM_MP_STATE_HALTED
                                                   : KVM_MP_STATE_RUNNABLE;
  } else {
    const bool waits = state.mp_state == KVM_MP_STATE_UNINITIALIZED || state.mp_state == KVM_MP_STATE_INIT_RECEIVED;
    value = from_number((waits ? kWaitForSipi : 0) | (state.mp_state == KVM_MP_STATE_HALTED ? kHalted : 0));
  }
  return {};
}

Result<> Bank::transfer(RegisterName name, RegisterValue& value, bool write) {
  if (const auto msr = msr_of(name)) return transfer_msr(*msr, value, write);
  if (is_within(name, RegisterName::Xmm0, RegisterName::XmmControlStatus))
    return transfer_floating_point(name, value, write);
  if (name == RegisterName::PendingInterruption || name == RegisterName::InterruptState) {
    return transfer_pending(name, value, write);
  }
  if (name == RegisterName::InternalActivityState) return transfer_activity(value, write);
  if (is_within(name, RegisterName::Es, RegisterName::Tr) || name == RegisterName::Idtr || name == RegisterName::Gdtr) {
    auto special = special_.use(processor_, write);
    if (!special) return std::unexpected(special.error());
    if (is_within(name, RegisterName::Es, RegisterName::Tr)) {
      kvm_segment& place = segment(**special, name);
      if (write) {
        place = to_segment(value.segment);
      } else {
        value = from_segment(place);
      }
      return {};
    }
    kvm_dtable& table = name == RegisterName::Idtr ? (*special)->idt : (*special)->gdt;
    if (write) {
      table.base = value.table.base;
      table.limit = value.table.limit;
    } else {
      value = {};
      value.table.base = table.base;
      value.table.limit = table.limit;
    }
    return {};
  }
  const Result<__u64*> place = number(name, write);
  if (!place) return std::unexpected(place.error());
  if (*place == nullptr) return fail(fmt::format("KVM has no register {:#x}", number_of(name)));
  if (write) {
    **place = value.number;
  } else {
    value = from_number(**place);
  }
  return {};
}

Result<> Bank::store() {
  for (const auto& stored :
       {special_.store(processor_), general_.store(processor_), debug_.store(processor_),
        floating_point_.store(processor_), events_.store(processor_), activity_.store(processor_)}) {
    if (!stored) return stored;
  }
  return {};
}

/// XCR0 has a call of its own.
Result<> transfer_xcr0(int processor, RegisterValue& value, bool write) {
  kvm_xcrs registers = {};
  if (ioctl(processor, KVM_GET_XCRS, &registers) < 0)
    return std::unexpected(Error::from_errno("cannot read XCR0", errno));
  for (std::uint32_t index = 0; index < registers.nr_xcrs && index < KVM_MAX_XCRS; ++index) {
    if (registers.xcrs[index].xcr != 0) continue;
    if (!write) {
      value = from_number(registers.xcrs[index].value);
      return {};
    }
    registers.xcrs[index].value = value.number;
    if (ioctl(processor, KVM_SET_XCRS, &registers) < 0)
      return std::unexpected(Error::from_errno("cannot set XCR0", errno));
    return {};
  }
  return fail("this processor has no XCR0");
}

}  // namespace

Result<> write_registers(int processor, std::span<const RegisterAssignment> assignments) {
  Bank bank(processor);
  for (const auto& assignment : assignments) {
    RegisterValue value = assignment.value;
    auto written = assignment.name == RegisterName::Xfem ? transfer_xcr0(processor, value, true)
                                                         : bank.transfer(assignment.name, value, true);
    if (!written) return written;
  }
  return bank.store();
}

Result<> read_registers(int processor, std::uint32_t vp_index, std::span<RegisterAssignment> assignments) {
  Bank bank(processor);
  for (auto& assignment : assignments) {
    if (assignment.name == RegisterName::InitialApicId) {
      assignment.value = from_number(vp_index);
      continue;
    }
    auto read = assignment.name == RegisterName::Xfem ? transfer_xcr0(processor, assignment.value, false)
                                                      : bank.transfer(assignment.name, assignment.value, false);
    if (!read) return read;
  }
  return {};
}

}  // namespace bulkhead::engine::kvm
