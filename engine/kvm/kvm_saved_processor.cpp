// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/kvm_saved_processor.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "engine/kvm/kvm_msrs.hpp"
#include "engine/kvm/kvm_registers.hpp"
#include "engine/saved_partition.hpp"
#include "engine/saved_registers.hpp"

namespace bulkhead::engine::kvm {
namespace {

using state::SavedBytes;
using state::SavedReader;
using state::SavedUnit;

constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kApicProcessorPriority = 0xa0;  // offset of the register
constexpr std::size_t kMaximumMsrs = 4096;
constexpr std::size_t kMaximumXsave = 64 << 10;

template <typename T>
std::span<const std::uint8_t> bytes_of(const T& value) {
  return {reinterpret_cast<const std::uint8_t*>(&value), sizeof value};
}

template <typename Group>
Result<> transfer(int descriptor, unsigned long request, Group* group, const char* attempt) {
  if (ioctl(descriptor, request, group) >= 0) return {};
  return std::unexpected(Error::from_errno(attempt, errno));
}

/// In words, so that the vector is aligned for KVM. The kernel tells the size if it can be other than a page.
std::vector<std::uint32_t> xsave_area(int machine) {
  const int size = ioctl(machine, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
  return std::vector<std::uint32_t>(std::max(static_cast<std::size_t>(std::max(size, 0)), sizeof(kvm_xsave)) / 4);
}

bool has_page_directory_pointers(int machine) { return ioctl(machine, KVM_CHECK_EXTENSION, KVM_CAP_SREGS2) > 0; }

/// The numbers of kvm_vcpu_events, each with the name of its field in saved state.
struct EventField {
  const char* name;
  std::uint64_t (*get)(const kvm_vcpu_events&);
  void (*set)(kvm_vcpu_events&, std::uint64_t);
  std::uint64_t maximum;
};
#define BULKHEAD_EVENT(name, member, maximum)                                         \
  EventField {                                                                        \
    name, [](const kvm_vcpu_events& events) { return std::uint64_t{events.member}; }, \
        [](kvm_vcpu_events& events, std::uint64_t value) {                            \
          events.member = static_cast<decltype(events.member)>(value);                \
        },                                                                            \
        maximum                                                                       \
  }
constexpr std::array kEventFields = {
    BULKHEAD_EVENT("exception injected", exception.injected, 1),
    BULKHEAD_EVENT("exception vector", exception.nr, 31),
    BULKHEAD_EVENT("exception has error code", exception.has_error_code, 1),
    BULKHEAD_EVENT("exception error code", exception.error_code, 0xffffffff),
    BULKHEAD_EVENT("interrupt injected", interrupt.injected, 1),
    BULKHEAD_EVENT("interrupt vector", interrupt.nr, 0xff),
    BULKHEAD_EVENT("interrupt by software", interrupt.soft, 1),
    BULKHEAD_EVENT("interrupt shadow", interrupt.shadow, KVM_X86_SHADOW_INT_MOV_SS | KVM_X86_SHADOW_INT_STI),
    BULKHEAD_EVENT("nmi injected", nmi.injected, 1),
    BULKHEAD_EVENT("nmi pending", nmi.pending, 1),
    BULKHEAD_EVENT("nmi masked", nmi.masked, 1),
    BULKHEAD_EVENT("sipi vector", sipi_vector, 0xff),
    BULKHEAD_EVENT("smm", smi.smm, 1),
    BULKHEAD_EVENT("smi pending", smi.pending, 1),
    BULKHEAD_EVENT("smm inside nmi", smi.smm_inside_nmi, 1),
    BULKHEAD_EVENT("init latched", smi.latched_init, 1),
};
#undef BULKHEAD_EVENT

SavedUnit save_events(const kvm_vcpu_events& events) {
  SavedUnit unit(kVersion);
  for (const auto& field : kEventFields) unit.number(field.name, field.get(events));
  return unit;
}

Result<> restore_events(int processor, const SavedUnit& saved) {
  SavedReader reader(saved, "pending events", kVersion);
  kvm_vcpu_events events = {};
  for (const auto& field : kEventFields) field.set(events, reader.number(field.name, field.maximum));
  if (auto read = reader.finish(); !read) return read;
  events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SHADOW;
  // A kernel without system management mode knows no such flag, and has nothing to be told.
  if (events.smi.smm || events.smi.pending || events.smi.smm_inside_nmi || events.smi.latched_init) {
    events.flags |= KVM_VCPUEVENT_VALID_SMM;
  }
  return transfer(processor, KVM_SET_VCPU_EVENTS, &events, "cannot set the pending events");
}

/// What the guest sees of CPUID, but for the kernel's own additions at run time.
SavedBytes saved_cpuid(const std::vector<kvm_cpuid_entry2>& cpuid) {
  SavedBytes bytes;
  for (const auto& entry : cpuid) {
    for (const std::uint32_t word : {entry.function, entry.index, entry.eax, entry.ebx, entry.ecx, entry.edx}) {
      const auto part = bytes_of(word);
      bytes.insert(bytes.end(), part.begin(), part.end());
    }
  }
  return bytes;
}

/// A guest keeps what it has read once: a machine with another CPUID is another machine.
Result<> check_cpuid(const SavedBytes& saved, const std::vector<kvm_cpuid_entry2>& cpuid) {
  constexpr std::size_t kEntry = 6 * sizeof(std::uint32_t);
  const SavedBytes own = saved_cpuid(cpuid);
  if (saved == own) return {};
  const auto differs = std::ranges::mismatch(saved, own).in1 - saved.begin();
  std::uint32_t leaf = 0;
  const auto start = static_cast<std::size_t>(differs) / kEntry * kEntry;
  if (start + sizeof leaf <= saved.size()) std::memcpy(&leaf, saved.data() + start, sizeof leaf);
  return fail(fmt::format("the state is of a guest that was told other things by CPUID leaf {:#x}", leaf));
}

SavedBytes msrs_to_bytes(const std::vector<Msr>& msrs) {
  SavedBytes bytes;
  for (const Msr& msr : msrs) {
    const auto index = bytes_of(msr.index);
    const auto value = bytes_of(msr.value);
    bytes.insert(bytes.end(), index.begin(), index.end());
    bytes.insert(bytes.end(), value.begin(), value.end());
  }
  return bytes;
}

Result<std::vector<Msr>> msrs_from_bytes(std::span<const std::uint8_t> bytes) {
  constexpr std::size_t kEntry = sizeof(Msr::index) + sizeof(Msr::value);
  if (bytes.size() % kEntry != 0) return fail("the saved MSRs are cut short");
  std::vector<Msr> msrs;
  for (; !bytes.empty(); bytes = bytes.subspan(kEntry)) {
    Msr msr{};
    std::memcpy(&msr.index, bytes.data(), sizeof msr.index);
    std::memcpy(&msr.value, bytes.data() + sizeof msr.index, sizeof msr.value);
    msrs.push_back(msr);
  }
  return msrs;
}

}  // namespace

Result<SavedUnit> save_processor(const SavedProcessor& from, const FrozenTime& time) {
  const int processor = from.processor;
  // The activity state first: asking for it makes the kernel act on INIT and SIPI that came. Then the events: asking for
  // them makes it act on exceptions, which changes registers.
  kvm_mp_state activity = {};
  kvm_vcpu_events events = {};
  kvm_xcrs extended = {};
  kvm_sregs2 special = {};
  kvm_lapic_state apic = {};
  std::vector<std::uint32_t> xsave = xsave_area(from.machine);
  const unsigned long get_xsave = xsave.size() * 4 > sizeof(kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;
  auto registers = assignments_for(kSavedRegisters);
  for (const auto& read : {transfer(processor, KVM_GET_MP_STATE, &activity, "cannot read the activity state"),
                           transfer(processor, KVM_GET_VCPU_EVENTS, &events, "cannot read the pending events"),
                           read_registers(processor, from.index, registers),
                           transfer(processor, KVM_GET_XCRS, &extended, "cannot read XCR0"),
                           transfer(processor, get_xsave, xsave.data(), "cannot read the XSAVE area"),
                           transfer(processor, KVM_GET_LAPIC, &apic, "cannot read the local APIC")}) {
    if (!read) return std::unexpected(read.error());
  }
  if (has_page_directory_pointers(from.machine)) {
    if (auto read = transfer(processor, KVM_GET_SREGS2, &special, "cannot read the page directory pointers"); !read) {
      return std::unexpected(read.error());
    }
  }
  std::memcpy(apic.regs + kApicCurrentCount, &time.count, sizeof time.count);  // the kernel's goes on counting
  std::memset(apic.regs + kApicProcessorPriority, 0,
              4);  // follows from what is in service, and the kernel is late with it
  const bool has_pointers = (special.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) != 0;

  SavedUnit saved(kVersion);
  save_registers(saved, "registers", registers);
  saved.bytes("engine", bytes_of(std::array{'k', 'v', 'm'}))
      .number("index", from.index)
      .number("activity", activity.mp_state)
      .list("events", {save_events(events)})
      .bytes("page directory pointers", has_pointers ? bytes_of(special.pdptrs) : std::span<const std::uint8_t>())
      .number("xcr0", extended.nr_xcrs > 0 ? extended.xcrs[0].value : 0)
      .bytes("xsave", {reinterpret_cast<const std::uint8_t*>(xsave.data()), xsave.size() * 4})
      .bytes("apic", bytes_of(apic.regs))
      .bytes("msrs", msrs_to_bytes(read_msrs(processor, from.host.msrs)))
      .bytes("cpuid", saved_cpuid(from.cpuid))
      .number("counter frequency", counter_frequency(processor))
      .number("counter", time.counter)
      .number("apic timer deadline", time.deadline);
  return saved;
}

namespace {

struct Parsed {
  std::vector<RegisterAssignment> registers = assignments_for(kSavedRegisters);
  std::uint32_t activity = 0;
  SavedUnit events{kVersion};
  SavedBytes pointers;
  std::uint64_t xcr0 = 0;
  SavedBytes xsave;
  SavedBytes apic;
  std::vector<Msr> msrs;
  FrozenTime time;
};

/// Everything that can be said of the state without touching the processor.
Result<Parsed> parse(const SavedProcessor& to, const SavedUnit& saved) {
  SavedReader reader(saved, "virtual processor", kVersion);
  Parsed parsed;
  const SavedBytes engine = reader.bytes_up_to("engine", 16);
  const SavedBytes registers = reader.bytes_up_to("registers", 64 << 10);
  const std::uint64_t index = reader.number("index", UINT32_MAX);
  parsed.activity = static_cast<std::uint32_t>(reader.number("activity", KVM_MP_STATE_AP_RESET_HOLD));
  const state::SavedList events = reader.list("events", 1);
  parsed.pointers = reader.bytes_up_to("page directory pointers", sizeof(kvm_sregs2::pdptrs));
  parsed.xcr0 = reader.number("xcr0");
  parsed.xsave = reader.bytes_up_to("xsave", kMaximumXsave);
  parsed.apic = reader.bytes("apic", KVM_APIC_REG_SIZE);
  const SavedBytes msrs = reader.bytes_up_to("msrs", kMaximumMsrs * sizeof(Msr));
  const SavedBytes cpuid = reader.bytes_up_to("cpuid", 64 << 10);
  const std::uint64_t frequency = reader.number("counter frequency");
  parsed.time.counter = reader.number("counter");
  parsed.time.deadline = reader.number("apic timer deadline");
  std::memcpy(&parsed.time.count, parsed.apic.data() + kApicCurrentCount, sizeof parsed.time.count);
  if (engine != SavedBytes{'k', 'v', 'm'}) {
    return fail(
        fmt::format("the state is of the engine '{}', this is 'kvm'", std::string(engine.begin(), engine.end())));
  }
  if (auto read = reader.finish(); !read) return std::unexpected(read.error());
  if (index != to.index) return fail(fmt::format("the state is of processor {}, this is {}", index, to.index));
  if (auto checked = check_cpuid(cpuid, to.cpuid); !checked) return std::unexpected(checked.error());
  if (auto checked = check_counter_frequency(frequency, counter_frequency(to.processor)); !checked)
    return std::unexpected(checked.error());
  if (!parsed.pointers.empty() && parsed.pointers.size() != sizeof(kvm_sregs2::pdptrs)) {
    return fail("the saved page directory pointers are cut short");
  }
  if (auto read = read_saved_registers(registers, parsed.registers); !read) return std::unexpected(read.error());
  auto values = msrs_from_bytes(msrs);
  if (!values) return std::unexpected(values.error());
  parsed.msrs = std::move(*values);
  parsed.events = events.front();
  return parsed;
}

Result<> set_extended_state(const SavedProcessor& to, const Parsed& parsed) {
  if (parsed.xcr0 != 0) {
    kvm_xcrs extended = {};
    extended.nr_xcrs = 1;
    extended.xcrs[0].value = parsed.xcr0;
    if (auto set = transfer(to.processor, KVM_SET_XCRS, &extended, "cannot set XCR0"); !set) return set;
  }
  std::vector<std::uint32_t> xsave = xsave_area(to.machine);
  if (parsed.xsave.size() > xsave.size() * 4) {
    return fail(
        fmt::format("the saved XSAVE area is {} bytes, here there are {}", parsed.xsave.size(), xsave.size() * 4));
  }
  std::memcpy(xsave.data(), parsed.xsave.data(), parsed.xsave.size());
  return transfer(to.processor, KVM_SET_XSAVE, xsave.data(), "cannot set the XSAVE area");
}

Result<> set_page_directory_pointers(const SavedProcessor& to, const SavedBytes& pointers) {
  if (pointers.empty()) return {};
  kvm_sregs2 special = {};
  if (auto read = transfer(to.processor, KVM_GET_SREGS2, &special, "cannot read the page directory pointers"); !read) {
    return read;
  }
  std::memcpy(special.pdptrs, pointers.data(), sizeof special.pdptrs);
  special.flags |= KVM_SREGS2_FLAGS_PDPTRS_VALID;
  return transfer(to.processor, KVM_SET_SREGS2, &special, "cannot set the page directory pointers");
}

}  // namespace

Result<FrozenTime> restore_processor(const SavedProcessor& to, const SavedUnit& saved) {
  auto parsed = parse(to, saved);
  if (!parsed) return std::unexpected(parsed.error());
  kvm_lapic_state apic = {};
  std::memcpy(apic.regs, parsed->apic.data(), sizeof apic.regs);
  kvm_mp_state activity = {.mp_state = parsed->activity};
  // Registers before the local APIC, whose form depends on APIC_BASE; MSRs after it, for the synthetic timers are its
  // interrupts'; events and activity last, for all else may wake a processor.
  if (auto set = write_registers(to.processor, parsed->registers); !set) return std::unexpected(set.error());
  if (auto set = set_page_directory_pointers(to, parsed->pointers); !set) return std::unexpected(set.error());
  if (auto set = set_extended_state(to, *parsed); !set) return std::unexpected(set.error());
  if (auto set = transfer(to.processor, KVM_SET_LAPIC, &apic, "cannot set the local APIC"); !set) {
    return std::unexpected(set.error());
  }
  if (auto set = write_msrs(to.processor, parsed->msrs); !set) return std::unexpected(set.error());
  if (auto set = restore_events(to.processor, parsed->events); !set) return std::unexpected(set.error());
  if (auto set = transfer(to.processor, KVM_SET_MP_STATE, &activity, "cannot set the activity state"); !set) {
    return std::unexpected(set.error());
  }
  return parsed->time;
}

Result<> inject_interrupt(int processor, std::uint8_t vector) {
  const std::string attempt = fmt::format("cannot inject external interrupt {:#x}", vector);
  kvm_vcpu_events events = {};
  if (auto read = transfer(processor, KVM_GET_VCPU_EVENTS, &events, attempt.c_str()); !read) return read;
  events.interrupt.injected = 1;
  events.interrupt.soft = 0;
  events.interrupt.nr = vector;
  if (auto set = transfer(processor, KVM_SET_VCPU_EVENTS, &events, attempt.c_str()); !set) return set;
  kvm_mp_state activity = {};
  if (auto read = transfer(processor, KVM_GET_MP_STATE, &activity, attempt.c_str()); !read) return read;
  if (activity.mp_state != KVM_MP_STATE_HALTED) return {};
  activity.mp_state = KVM_MP_STATE_RUNNABLE;
  return transfer(processor, KVM_SET_MP_STATE, &activity, attempt.c_str());
}

}  // namespace bulkhead::engine::kvm
