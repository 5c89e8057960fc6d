// SPDX-License-Identifier: Apache-2.0
#include "tests/hypervisor/fake_machine.hpp"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "hypervisor/memory/page_table.hpp"
#include "hypervisor/partition/partition_table.hpp"

namespace bulkhead::hypervisor {
namespace fake {
namespace {

Machine* current_machine = nullptr;

// The hypervisor's own frames lie in the first 64 KiB, behind the root's 640 KiB would be others': RAM starts at 1 MiB.
constexpr std::uint64_t kOwnFrames = 0x1000, kRamStart = 0x100000;

struct OwnFrames {
  std::uint64_t next = kOwnFrames / kPageSize;
  std::optional<Frame> allocate() { return Frame{next++}; }
  void free(Frame) {}
};

}  // namespace

thread_local std::uint32_t this_lp = 0;

Machine& Machine::current() { return *current_machine; }

Machine::Machine() {
  memory = static_cast<std::byte*>(
      mmap(nullptr, kMemorySize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (memory == MAP_FAILED) std::abort();
  current_machine = this;
  this_lp = 0;

  OwnFrames own;
  PageTable<NestedFormat> table = *PageTable<NestedFormat>::create(own);
  for (std::uint64_t page = 0; page < kMemorySize / kPageSize; page += kPagesPerLargePage) {
    (void)table.map(page, {page}, PageSize::k2MiB, {}, own);
  }
  root_table = table.root();
  zero_frame = *own.allocate();
  ram = {{Frame::at(kRamStart), (kMemorySize - kRamStart) / kPageSize}};
  counters.assign(kMemorySize / kLargePageSize, 0);

  // A processor with everything that the filter table lets through, and more.
  cpuid[0] = {0xd, 0x68747541, 0x444d4163, 0x69746e65};
  cpuid[1ull << 32] = {0x00800f12, 0x01020800, 0xffffffff, 0xffffffff};
  cpuid[0xdull << 32] = {7, 0x340, 0x340, 0};
  cpuid[0xdull << 32 | 2] = {0x100, 0x240, 0, 0};
  cpuid[0x80000000ull << 32] = {0x8000001f, 0x68747541, 0x444d4163, 0x69746e65};
  cpuid[0x80000001ull << 32] = {0x00800f12, 0, 0xffffffff, 0xffffffff};
  cpuid[0x80000008ull << 32] = {0x3034, 0, 0, 0};

  start({.root_table = root_table,
         .zero_frame = zero_frame,
         .reserve = {*own.allocate(), *own.allocate()},
         .ram = ram,
         .region_counters = counters,
         .image_bytes = 100'000,
         .memory_bytes = 200'000});
}

Machine::~Machine() {
  *partition_table().lock() = {};  // what a test left
  for (FakeVpHardware* each : hardware) delete each;
  munmap(memory, kMemorySize);
  current_machine = nullptr;
}

Frame Machine::root_translates(std::uint64_t address) const {
  const auto frame = PageTable<NestedFormat>(root_table).translate(address / kPageSize);
  return frame.value_or(Frame{~0ull});
}

void FakeVpHardware::reset(bool init) {
  ++resets;
  std::memset(general, 0, sizeof general);
  rip = 0xfff0;
  rflags = 2;
  cr8 = 0;
  interrupt_shadow = nmi_masked = false;
  event = {};
  execution_mode = {.cr0 = 0x60000010,
                    .cr3 = 0,
                    .cr4 = 0,
                    .efer = 0,
                    .cs = {.base = 0xffff0000, .limit = 0xffff, .selector = 0xf000, .attributes = 0x9b},
                    .cpl = 0};
  if (!init) registers.clear();
}

const Exit& FakeVpHardware::enter() {
  ++entries;
  if (event) {
    delivered.push_back(event);
    event = {};
  }
  interrupt_shadow = false;
  if (steps.empty()) {
    exit_ = {};
    exit_.reason = ExitReason::PhysicalInterrupt;
    return exit_;
  }
  Step step = std::move(steps.front());
  steps.pop_front();
  if (step.guest) step.guest(*this);
  exit_ = step.exit;
  return exit_;
}

std::expected<abi::RegisterValue, hv_status> FakeVpHardware::get_register(abi::RegisterName name) const {
  abi::RegisterValue value{};
  switch (name) {
    case abi::RegisterName::Cs: value.segment = execution_mode.cs; return value;
    case abi::RegisterName::Cr0: value.number = execution_mode.cr0; return value;
    case abi::RegisterName::Cr3: value.number = execution_mode.cr3; return value;
    case abi::RegisterName::Cr4: value.number = execution_mode.cr4; return value;
    case abi::RegisterName::Efer: value.number = execution_mode.efer; return value;
    default: break;
  }
  if (static_cast<std::uint32_t>(name) < 0x30000 || static_cast<std::uint32_t>(name) >= 0x90000) {
    return std::unexpected(HV_STATUS_UNKNOWN_REGISTER_NAME);
  }
  const auto found = registers.find(name);
  return found == registers.end() ? value : found->second;
}

hv_status FakeVpHardware::set_register(abi::RegisterName name, const abi::RegisterValue& value) {
  switch (name) {
    case abi::RegisterName::Cs: execution_mode.cs = value.segment; return HV_STATUS_SUCCESS;
    case abi::RegisterName::Cr0: execution_mode.cr0 = value.number; return HV_STATUS_SUCCESS;
    case abi::RegisterName::Cr3: execution_mode.cr3 = value.number; return HV_STATUS_SUCCESS;
    case abi::RegisterName::Cr4: execution_mode.cr4 = value.number; return HV_STATUS_SUCCESS;
    case abi::RegisterName::Efer:
      if (value.number & ~0xd01ull) return HV_STATUS_INVALID_REGISTER_VALUE;
      execution_mode.efer = value.number;
      return HV_STATUS_SUCCESS;
    default: break;
  }
  if (static_cast<std::uint32_t>(name) < 0x30000 || static_cast<std::uint32_t>(name) >= 0x90000) {
    return HV_STATUS_UNKNOWN_REGISTER_NAME;
  }
  registers[name] = value;
  return HV_STATUS_SUCCESS;
}

void FakeVpHardware::publish(abi::RegisterPage& page) const {
  constexpr abi::RegisterName kSegments[] = {abi::RegisterName::Es, abi::RegisterName::Cs, abi::RegisterName::Ss,
                                             abi::RegisterName::Ds, abi::RegisterName::Fs, abi::RegisterName::Gs};
  for (unsigned i = 0; i < 6; ++i) page.segments[i] = get_register(kSegments[i])->segment;
  page.cr0 = execution_mode.cr0;
  page.cr3 = execution_mode.cr3;
  page.cr4 = execution_mode.cr4;
  page.efer = execution_mode.efer;
}

Root::Result Root::raw(std::uint64_t control, std::uint64_t rdx, std::uint64_t r8) {
  root::HypercallRegisters registers{.rax = ~0ull, .rcx = control, .rdx = rdx, .r8 = r8, .again = false};
  unsigned entries = 0;
  do {
    root::hypercall(registers);
    ++entries;
  } while (registers.again && entries < 100'000);
  return {static_cast<std::uint16_t>(registers.rax), static_cast<std::uint32_t>(registers.rax >> 32) & 0xfff, entries};
}

Root::Result Root::call(std::uint16_t code, std::span<const std::byte> input, std::uint32_t reps) {
  if (!input.empty()) std::memcpy(machine_.at(kInputPage), input.data(), input.size());
  return raw(code | std::uint64_t{reps} << HV_HYPERCALL_REP_COUNT_SHIFT, kInputPage, kOutputPage);
}

namespace {

void expect_success(const Root::Result& result, const char* what) {
  if (result.status == HV_STATUS_SUCCESS) return;
  std::fprintf(stderr, "%s: status 0x%x after %u\n", what, result.status, result.reps);
  std::abort();
}

}  // namespace

std::uint64_t Root::create_partition(std::uint64_t flags) {
  hv_create_partition input{};
  input.flags = flags;
  Result result = call(HV_CALL_CREATE_PARTITION, input);
  // As a driver does it: deposit a page for the root itself, and try again.
  for (std::uint64_t page = kOwnDepositPage; result.status == HV_STATUS_INSUFFICIENT_MEMORY; ++page) {
    deposit(HV_PARTITION_ID_SELF, page, 1);
    result = call(HV_CALL_CREATE_PARTITION, input);
  }
  expect_success(result, "create partition");
  return output<std::uint64_t>();
}

std::uint64_t Root::create_child() {
  const std::uint64_t id = create_partition();
  expect_success(deposit(id, kDepositPage, 200), "deposit");
  expect_success(call(HV_CALL_INITIALIZE_PARTITION, hv_partition_id{id}), "initialize partition");
  expect_success(map(id, 0, kGuestPage, 64), "map memory");
  return id;
}

Root::Result Root::create_vp(std::uint64_t partition, std::uint32_t vp) {
  hv_create_vp input{};
  input.partition_id = partition;
  input.vp_index = vp;
  return call(HV_CALL_CREATE_VP, input);
}

Root::Result Root::deposit(std::uint64_t partition, std::uint64_t first_page, std::uint32_t count) {
  std::vector<std::uint64_t> pages;
  for (std::uint32_t i = 0; i < count; ++i) pages.push_back(first_page + i);
  return call_list(HV_CALL_DEPOSIT_MEMORY, hv_deposit_memory{partition}, pages);
}

std::vector<std::uint64_t> Root::withdraw_all(std::uint64_t partition) {
  std::vector<std::uint64_t> pages;
  for (;;) {
    const hv_withdraw_memory input{partition, 0};
    const Result result = call(HV_CALL_WITHDRAW_MEMORY, std::as_bytes(std::span(&input, 1)), 256);
    for (std::uint32_t i = 0; i < result.reps; ++i) pages.push_back(machine_.read<std::uint64_t>(kOutputPage + 8 * i));
    if (result.status != HV_STATUS_SUCCESS) return pages;
  }
}

hv_memory_balance Root::balance(std::uint64_t partition) {
  expect_success(call(HV_CALL_GET_MEMORY_BALANCE, hv_withdraw_memory{partition, 0}), "balance");
  return output<hv_memory_balance>();
}

Root::Result Root::set_register(std::uint64_t partition, std::uint32_t vp, abi::RegisterName name,
                                std::uint64_t value) {
  const hv_register_assignment assignment{static_cast<__u32>(name), {}, {value, 0}};
  return call_list(HV_CALL_SET_VP_REGISTERS, hv_vp_registers{partition, vp, 0, {}}, std::vector{assignment});
}

std::uint64_t Root::get_register(std::uint64_t partition, std::uint32_t vp, abi::RegisterName name) {
  expect_success(call_list(HV_CALL_GET_VP_REGISTERS, hv_vp_registers{partition, vp, 0, {}},
                           std::vector{static_cast<std::uint32_t>(name)}),
                 "get register");
  return output<std::uint64_t>();
}

hv_dispatch_vp_output Root::dispatch(std::uint64_t partition, std::uint32_t vp, std::uint32_t flags,
                                     std::uint64_t timer_armed) {
  hv_dispatch_vp input{};
  input.partition_id = partition;
  input.vp_index = vp;
  input.flags = flags;
  input.timer_armed = timer_armed;
  expect_success(call(HV_CALL_DISPATCH_VP, input), "dispatch");
  return output<hv_dispatch_vp_output>();
}

Root::Result Root::map(std::uint64_t partition, std::uint64_t gpa_page, std::uint64_t page, std::uint32_t count,
                       std::uint32_t flags) {
  std::vector<std::uint64_t> pages;
  for (std::uint32_t i = 0; i < count; ++i) {
    pages.push_back(page + i * (flags & HV_MAP_GPA_LARGE_PAGE ? kPagesPerLargePage : 1));
  }
  return call_list(HV_CALL_MAP_GPA_PAGES, hv_map_gpa_pages{partition, gpa_page, flags, 0}, pages);
}

Root::Result Root::unmap(std::uint64_t partition, std::uint64_t gpa_page, std::uint32_t count, std::uint32_t flags) {
  const hv_unmap_gpa_pages input{partition, gpa_page, flags, 0};
  return call(HV_CALL_UNMAP_GPA_PAGES, std::as_bytes(std::span(&input, 1)), count);
}

}  // namespace fake

namespace machine {

std::uint32_t current_lp() { return fake::this_lp; }
std::uint32_t lp_count() { return fake::Machine::current().lps; }
std::uint64_t tsc() { return fake::Machine::current().tsc.load(); }
std::uint64_t tsc_frequency() { return fake::Machine::kFrequency; }

void kick(std::uint32_t lp) {
  fake::Machine& machine = fake::Machine::current();
  {
    const std::lock_guard lock(machine.mutex);
    machine.kicks.push_back(lp);
  }
  if (machine.on_kick) machine.on_kick(lp);
}

void flush_root_tlb_everywhere() { ++fake::Machine::current().root_flushes; }

CpuidResult host_cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  const auto& table = fake::Machine::current().cpuid;
  const auto found = table.find(std::uint64_t{leaf} << 32 | subleaf);
  return found == table.end() ? CpuidResult{0x11111111, 0x22222222, 0x33333333, 0x44444444} : found->second;
}

std::uint64_t xsave_features() { return 7; }

std::byte* frame_pointer(Frame frame) {
  if (frame.address() >= fake::Machine::kMemorySize) {
    std::fprintf(stderr, "access to physical address 0x%llx\n", static_cast<unsigned long long>(frame.address()));
    std::abort();
  }
  return fake::Machine::current().at(frame.address());
}

std::size_t vp_hardware_frame_count() { return 3; }

VpHardware* create_vp_hardware(std::span<const Frame> frames, const VpHardwareSettings& settings) {
  if (frames.size() != vp_hardware_frame_count()) std::abort();
  auto* hardware = new fake::FakeVpHardware(settings);
  fake::Machine& machine = fake::Machine::current();
  machine.hardware.insert(hardware);
  machine.created.push_back(hardware);
  return hardware;
}

void destroy_vp_hardware(VpHardware& hardware) {
  auto* fake_hardware = static_cast<fake::FakeVpHardware*>(&hardware);
  fake::Machine::current().hardware.erase(fake_hardware);
  delete fake_hardware;
}

void log(std::string_view, std::uint64_t) {}

void panic(std::string_view why) {
  std::fprintf(stderr, "panic: %s\n", std::string(why).c_str());
  std::abort();
}

}  // namespace machine
}  // namespace bulkhead::hypervisor
