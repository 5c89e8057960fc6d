// SPDX-License-Identifier: Apache-2.0
#include "engine/native/native_saved_processor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "engine/saved_partition.hpp"
#include "engine/saved_registers.hpp"

namespace bulkhead::engine::native {
namespace {

using abi::RegisterName;
using state::SavedBytes;
using state::SavedReader;
using state::SavedUnit;

constexpr std::uint32_t kVersion = 1;

/// What the hypervisor has beside kSavedRegisters, in an order in which it can be set: the guest's identity before the hypercall page,
/// and what SynIC pages hold when the SynIC is switched on.
constexpr std::array kSystemRegisters = {
    RegisterName::KernelGsBase, RegisterName::Pat,           RegisterName::SysenterCs,   RegisterName::SysenterEip,
    RegisterName::SysenterEsp,  RegisterName::Star,          RegisterName::Lstar,        RegisterName::Cstar,
    RegisterName::Sfmask,       RegisterName::TscAux,        RegisterName::Xfem,         RegisterName::Tsc,
    RegisterName::GuestOsId,    RegisterName::HypercallPage, RegisterName::ReferenceTsc, RegisterName::VpAssistPage,
    RegisterName::Siefp,        RegisterName::Simp,          RegisterName::Scontrol,
};
struct RegisterRange {
  RegisterName first;
  unsigned count;
};
constexpr std::array kSystemRanges = {RegisterRange{RegisterName::Sint0, 16}, RegisterRange{RegisterName::CrashP0, 5}};

/// After the local APIC: its mode decides what the deadline is, and events wait for no more than being delivered.
constexpr std::array kEventRegisters = {
    RegisterName::ApicTaskPriority,
    RegisterName::TscDeadline,
    RegisterName::InterruptState,
    RegisterName::PendingInterruption,
    RegisterName::DeliverabilityNotifications,
    RegisterName::InternalActivityState,
};

std::vector<RegisterAssignment> system_registers() {
  std::vector<RegisterAssignment> registers = assignments_for(kSystemRegisters);
  for (const RegisterRange& range : kSystemRanges) {
    for (unsigned index = 0; index < range.count; ++index) {
      registers.push_back({.name = RegisterName{static_cast<std::uint32_t>(range.first) + index}, .value = {}});
    }
  }
  return registers;
}

template <typename T>
std::span<const std::uint8_t> bytes_of(const T& value) {
  return {reinterpret_cast<const std::uint8_t*>(&value), sizeof value};
}

std::vector<hv_register_assignment> to_vid(std::span<const RegisterAssignment> registers) {
  std::vector<hv_register_assignment> list;
  for (const auto& from : registers) {
    hv_register_assignment to = {};
    to.name = static_cast<std::uint32_t>(from.name);
    to.value = from.value.raw;
    list.push_back(to);
  }
  return list;
}

Result<> read(VidProcessor& processor, std::span<RegisterAssignment> registers) {
  std::vector<hv_register_assignment> list = to_vid(registers);
  if (auto got = processor.get_registers(list); !got) return got;
  for (std::size_t index = 0; index < list.size(); ++index) registers[index].value.raw = list[index].value;
  return {};
}

Result<> write(VidProcessor& processor, std::span<const RegisterAssignment> registers) {
  std::vector<hv_register_assignment> list = to_vid(registers);
  return processor.set_registers(list);
}

// CPUID as the guest is told it.

/// How many subleaves are looked at; of every other leaf one.
struct Subleaves {
  std::uint32_t leaf;
  std::uint32_t count;
};
constexpr std::array kSubleaves = {Subleaves{0x4, 6}, Subleaves{0x7, 2}, Subleaves{0xb, 3}, Subleaves{0xd, 64},
                                   Subleaves{0x8000001d, 6}};
/// Where a family of leaves begins; what it answers in EAX is the last.
constexpr std::array<std::uint32_t, 3> kFamilies = {0, 0x40000000, 0x80000000};
constexpr std::uint32_t kLongestFamily = 64;

struct CpuidEntry {
  std::uint32_t leaf, subleaf;
  hv_cpuid_values values;
};

/// Fills in the values.
Result<> read_cpuid(const SavedProcessor& from, std::span<CpuidEntry> entries) {
  constexpr std::size_t kAtOnce = 128;
  for (; !entries.empty(); entries = entries.subspan(std::min(kAtOnce, entries.size()))) {
    const auto part = entries.first(std::min(kAtOnce, entries.size()));
    std::vector<std::uint8_t> input(sizeof(hv_get_vp_cpuid_values) + part.size() * sizeof(hv_cpuid_leaf));
    hv_get_vp_cpuid_values header = {};
    header.vp_index = from.index;
    header.flags = HV_CPUID_USE_VP_XFEM | HV_CPUID_APPLY_REGISTERED;
    std::memcpy(input.data(), &header, sizeof header);
    for (std::size_t index = 0; index < part.size(); ++index) {
      const hv_cpuid_leaf leaf{part[index].leaf, part[index].subleaf, 0, 0};
      std::memcpy(input.data() + sizeof header + index * sizeof leaf, &leaf, sizeof leaf);
    }
    std::vector<hv_cpuid_values> values(part.size());
    const std::span output(reinterpret_cast<std::uint8_t*>(values.data()), values.size() * sizeof values[0]);
    if (auto asked = from.partition.hypercall(HV_CALL_GET_VP_CPUID_VALUES, input, output,
                                              static_cast<std::uint32_t>(part.size()));
        !asked) {
      return std::unexpected(asked.error().within("cannot read what the guest is told by CPUID"));
    }
    for (std::size_t index = 0; index < part.size(); ++index) part[index].values = values[index];
  }
  return {};
}

/// Without what follows from registers that are saved themselves: CR4, XCR0 and APIC_BASE.
void leave_out_what_changes(CpuidEntry& entry) {
  constexpr std::uint32_t kOsXsave = 1u << 27, kApic = 1u << 9, kOsProtectionKeys = 1u << 4;
  if (entry.leaf == 1) {
    entry.values.ecx &= ~kOsXsave;
    entry.values.edx &= ~kApic;
  }
  if (entry.leaf == 7 && entry.subleaf == 0) entry.values.ecx &= ~kOsProtectionKeys;
  if (entry.leaf == 0xd && entry.subleaf < 2) entry.values.ebx = 0;
}

Result<SavedBytes> cpuid(const SavedProcessor& from) {
  std::vector<CpuidEntry> families;
  families.reserve(kFamilies.size());
  for (const std::uint32_t first : kFamilies) families.push_back({first, 0, {}});
  if (auto asked = read_cpuid(from, families); !asked) return std::unexpected(asked.error());
  std::vector<CpuidEntry> entries;
  for (const CpuidEntry& family : families) {
    const std::uint32_t last = std::min(family.values.eax, family.leaf + kLongestFamily);
    for (std::uint32_t leaf = family.leaf; leaf <= last; ++leaf) {
      const auto found = std::ranges::find(kSubleaves, leaf, &Subleaves::leaf);
      const std::uint32_t count = found == kSubleaves.end() ? 1 : found->count;
      for (std::uint32_t subleaf = 0; subleaf < count; ++subleaf) entries.push_back({leaf, subleaf, {}});
    }
  }
  if (auto asked = read_cpuid(from, entries); !asked) return std::unexpected(asked.error());
  SavedBytes bytes;
  for (CpuidEntry& entry : entries) {
    leave_out_what_changes(entry);
    const auto part = bytes_of(entry);
    bytes.insert(bytes.end(), part.begin(), part.end());
  }
  return bytes;
}

/// A guest keeps what it has read once: a machine with another CPUID is another machine.
Result<> check_cpuid(const SavedProcessor& to, const SavedBytes& saved) {
  const auto own = cpuid(to);
  if (!own) return std::unexpected(own.error());
  if (saved == *own) return {};
  const auto differs = static_cast<std::size_t>(std::ranges::mismatch(saved, *own).in1 - saved.begin());
  std::uint32_t leaf = 0;
  const std::size_t start = differs / sizeof(CpuidEntry) * sizeof(CpuidEntry);
  if (start + sizeof leaf <= saved.size()) std::memcpy(&leaf, saved.data() + start, sizeof leaf);
  return fail(fmt::format("the state is of a guest that was told other things by CPUID leaf {:#x}", leaf));
}

}  // namespace

Result<SavedUnit> save_processor(const SavedProcessor& from) {
  hv_local_interrupt_controller_state apic = {};
  hv_synthetic_timers_state timers = {};
  SavedBytes xsave(HV_PAGE_SIZE);
  auto registers = assignments_for(kSavedRegisters);
  auto system = system_registers();
  auto events = assignments_for(kEventRegisters);
  VidProcessor& processor = from.processor;
  for (const auto& read_one :
       {processor.get_state(HV_VP_STATE_LOCAL_APIC, {reinterpret_cast<std::uint8_t*>(&apic), sizeof apic}),
        processor.get_state(HV_VP_STATE_SYNTHETIC_TIMERS, {reinterpret_cast<std::uint8_t*>(&timers), sizeof timers}),
        processor.get_state(HV_VP_STATE_XSAVE, xsave), read(processor, registers), read(processor, system),
        read(processor, events)}) {
    if (!read_one) return std::unexpected(read_one.error());
  }
  // A wish for an interrupt window is the PIC's, which makes it again; what messages wait for stays.
  for (auto& event : events) {
    if (event.name != RegisterName::DeliverabilityNotifications) continue;
    event.value.number &= ~(abi::kNotifyNmiDeliverable | abi::kNotifyInterruptDeliverable);
  }
  const auto told = cpuid(from);
  if (!told) return std::unexpected(told.error());

  SavedUnit saved(kVersion);
  save_registers(saved, "registers", registers);
  save_registers(saved, "system registers", system);
  save_registers(saved, "event registers", events);
  saved.bytes("engine", bytes_of(std::array{'n', 'a', 't', 'i', 'v', 'e'}))
      .number("index", from.index)
      .bytes("apic", bytes_of(apic))
      .bytes("synthetic timers", bytes_of(timers))
      .bytes("xsave", xsave)
      .bytes("cpuid", *told)
      .number("counter frequency", from.tsc_frequency);
  return saved;
}

namespace {

struct Parsed {
  std::vector<RegisterAssignment> registers = assignments_for(kSavedRegisters);
  std::vector<RegisterAssignment> system = system_registers();
  std::vector<RegisterAssignment> events = assignments_for(kEventRegisters);
  SavedBytes apic, timers, xsave;
};

/// Everything that can be said of the state without touching the processor.
Result<Parsed> parse(const SavedProcessor& to, const SavedUnit& saved) {
  SavedReader reader(saved, "virtual processor", kVersion);
  Parsed parsed;
  constexpr std::size_t kMaximumList = 1u << 16;
  const SavedBytes engine = reader.bytes_up_to("engine", 16);
  const SavedBytes registers = reader.bytes_up_to("registers", kMaximumList);
  const SavedBytes system = reader.bytes_up_to("system registers", kMaximumList);
  const SavedBytes events = reader.bytes_up_to("event registers", kMaximumList);
  const std::uint64_t index = reader.number("index", UINT32_MAX);
  parsed.apic = reader.bytes("apic", sizeof(hv_local_interrupt_controller_state));
  parsed.timers = reader.bytes("synthetic timers", sizeof(hv_synthetic_timers_state));
  parsed.xsave = reader.bytes("xsave", HV_PAGE_SIZE);
  const SavedBytes told = reader.bytes_up_to("cpuid", kMaximumList);
  const std::uint64_t frequency = reader.number("counter frequency");
  if (std::string(engine.begin(), engine.end()) != "native") {
    return fail(
        fmt::format("the state is of the engine '{}', this is 'native'", std::string(engine.begin(), engine.end())));
  }
  if (auto finished = reader.finish(); !finished) return std::unexpected(finished.error());
  if (index != to.index) return fail(fmt::format("the state is of processor {}, this is {}", index, to.index));
  if (auto checked = check_cpuid(to, told); !checked) return std::unexpected(checked.error());
  if (auto checked = check_counter_frequency(frequency, to.tsc_frequency); !checked)
    return std::unexpected(checked.error());
  for (const auto& taken : {read_saved_registers(registers, parsed.registers),
                            read_saved_registers(system, parsed.system), read_saved_registers(events, parsed.events)}) {
    if (!taken) return std::unexpected(taken.error());
  }
  return parsed;
}

}  // namespace

Result<> restore_processor(const SavedProcessor& to, const SavedUnit& saved) {
  auto parsed = parse(to, saved);
  if (!parsed) return std::unexpected(parsed.error());
  VidProcessor& processor = to.processor;
  if (auto set = write(processor, parsed->registers); !set) return set;
  if (auto set = write(processor, parsed->system); !set) return set;
  if (auto set = processor.set_state(HV_VP_STATE_XSAVE, parsed->xsave); !set) return set;
  if (auto set = processor.set_state(HV_VP_STATE_LOCAL_APIC, parsed->apic); !set) return set;
  if (auto set = processor.set_state(HV_VP_STATE_SYNTHETIC_TIMERS, parsed->timers); !set) return set;
  return write(processor, parsed->events);
}

}  // namespace bulkhead::engine::native
