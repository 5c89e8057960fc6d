// SPDX-License-Identifier: Apache-2.0
#include "tests/engine/conformance/guest_machine.hpp"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace bulkhead::engine {
namespace {

using abi::RegisterName;

constexpr std::uint64_t kGdt = 0x1000, kPageTables = 0x2000, kIdt = 0x8000;

RegisterAssignment segment_assignment(RegisterName name, std::uint16_t selector, std::uint64_t base,
                                      std::uint32_t limit, std::uint16_t attributes) {
  RegisterAssignment assignment{.name = name, .value = {}};
  assignment.value.segment = {.base = base, .limit = limit, .selector = selector, .attributes = attributes};
  return assignment;
}

RegisterAssignment table_assignment(RegisterName name, std::uint64_t base, std::uint16_t limit) {
  RegisterAssignment assignment{.name = name, .value = {}};
  assignment.value.table = {.padding = {}, .limit = limit, .base = base};
  return assignment;
}

/// Cancels a processor that has not come to an end in time.
class Watchdog {
 public:
  explicit Watchdog(VirtualProcessor& vp)
      : thread_([this, &vp] {
          std::unique_lock lock(mutex_);
          if (!changed_.wait_for(lock, std::chrono::seconds(20), [this] { return done_; })) vp.cancel();
        }) {}
  ~Watchdog() {
    const std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::jthread thread_;
};

}  // namespace

RegisterAssignment number_assignment(RegisterName name, std::uint64_t value) {
  RegisterAssignment assignment{.name = name, .value = {}};
  assignment.value.number = value;
  return assignment;
}

std::uint64_t register_number(VirtualProcessor& vp, RegisterName name) {
  RegisterAssignment assignment = number_assignment(name, 0);
  const auto got = vp.get_registers(std::span(&assignment, 1));
  EXPECT_TRUE(got.has_value()) << got.error().message();
  return assignment.value.number;
}

Result<std::unique_ptr<GuestMachine>> GuestMachine::create(Engine& engine, const PartitionSettings& settings,
                                                           std::span<const GuestMemory::Range> more_memory) {
  std::unique_ptr<GuestMachine> machine(new GuestMachine());
  machine->settings_ = settings;
  std::vector<GuestMemory::Range> ranges = {{.base = 0, .size = kMemorySize}};
  ranges.insert(ranges.end(), more_memory.begin(), more_memory.end());
  auto memory = GuestMemory::allocate(ranges);
  if (!memory) return std::unexpected(memory.error());
  machine->memory_ = std::move(*memory);
  auto partition = engine.create_partition(settings);
  if (!partition) return std::unexpected(partition.error());
  machine->partition_ = std::move(*partition);
  if (auto mapped = machine->partition_->map_memory(*machine->memory_); !mapped) return std::unexpected(mapped.error());
  for (std::uint32_t index = 0; index < settings.vp_count; ++index) {
    auto vp = machine->partition_->create_vp(index);
    if (!vp) return std::unexpected(vp.error());
    machine->vps_.push_back(std::move(*vp));
  }
  return machine;
}

void GuestMachine::write(GuestPhysicalAddress address, std::span<const std::uint8_t> bytes) {
  ASSERT_TRUE(memory_->write(address, bytes));
}

void GuestMachine::start_real_mode(std::span<const std::uint8_t> code) {
  write(kCode, code);
  const std::vector<RegisterAssignment> registers = {
      segment_assignment(RegisterName::Cs, kCode >> 4, kCode, 0xffff, 0x009b),
      segment_assignment(RegisterName::Ds, 0, 0, 0xffff, 0x0093),
      segment_assignment(RegisterName::Es, 0, 0, 0xffff, 0x0093),
      segment_assignment(RegisterName::Ss, 0, 0, 0xffff, 0x0093),
      number_assignment(RegisterName::Rip, 0),
      number_assignment(RegisterName::Rsp, 0x7000),
      number_assignment(RegisterName::Rflags, 2),
  };
  const auto set = vp().set_registers(registers);
  ASSERT_TRUE(set.has_value()) << set.error().message();
}

void GuestMachine::start_long_mode(std::span<const std::uint8_t> code) {
  write(kCode, code);
  put<std::uint64_t>(kGdt + 8, 0x00af9b000000ffff);
  put<std::uint64_t>(kGdt + 16, 0x00cf93000000ffff);
  constexpr std::uint64_t kTable = 0x7, kLargePage = 0x87;
  put<std::uint64_t>(kPageTables, (kPageTables + 0x1000) | kTable);
  for (std::uint64_t gigabyte = 0; gigabyte < 4; ++gigabyte) {
    const std::uint64_t directory = kPageTables + 0x2000 + gigabyte * 0x1000;
    put<std::uint64_t>(kPageTables + 0x1000 + gigabyte * 8, directory | kTable);
    for (std::uint64_t entry = 0; entry < 512; ++entry) {
      put<std::uint64_t>(directory + entry * 8, (gigabyte << 30) | (entry << 21) | kLargePage);
    }
  }
  const std::vector<RegisterAssignment> registers = {
      table_assignment(RegisterName::Gdtr, kGdt, 0x17),
      table_assignment(RegisterName::Idtr, kIdt, 0xfff),
      number_assignment(RegisterName::Cr3, kPageTables),
      number_assignment(RegisterName::Cr4, 0x620),   // PAE, OSFXSR, OSXMMEXCPT
      number_assignment(RegisterName::Efer, 0x500),  // LME, LMA
      number_assignment(RegisterName::Cr0, 0x80010033),
      segment_assignment(RegisterName::Cs, 0x08, 0, 0xffffffff, 0xa09b),
      segment_assignment(RegisterName::Ds, 0x10, 0, 0xffffffff, 0xc093),
      segment_assignment(RegisterName::Es, 0x10, 0, 0xffffffff, 0xc093),
      segment_assignment(RegisterName::Ss, 0x10, 0, 0xffffffff, 0xc093),
      segment_assignment(RegisterName::Tr, 0x00, 0, 0xffff, 0x008b),
      number_assignment(RegisterName::Rip, kCode),
      number_assignment(RegisterName::Rsp, kStack),
      number_assignment(RegisterName::Rflags, 2),
  };
  const auto set = vp().set_registers(registers);
  ASSERT_TRUE(set.has_value()) << set.error().message();
}

void GuestMachine::set_gate(std::uint8_t vector, std::uint64_t handler) {
  const std::uint64_t gate = kIdt + vector * 16u;
  put<std::uint64_t>(gate, (handler & 0xffff) | 0x08ull << 16 | 0x8e00ull << 32 | ((handler >> 16) & 0xffff) << 48);
  put<std::uint64_t>(gate + 8, handler >> 32);
}

bool GuestMachine::serve(const Exit& exit) {
  if (const auto* port = std::get_if<PortExit>(&exit)) {
    if (port->write) {
      if (port->port == kDonePort) return false;
      port_writes.push_back(*port);
      on_port_write(*port);
    } else {
      vp().complete_read(port_reads.empty() ? ~0ull : port_reads.front());
      if (!port_reads.empty()) port_reads.pop_front();
    }
    return true;
  }
  if (const auto* access = std::get_if<MmioExit>(&exit)) {
    mmio.push_back(*access);
    if (!access->write) vp().complete_read(mmio_read(*access));
    return true;
  }
  return false;
}

Result<Exit> GuestMachine::run() {
  const Watchdog watchdog(vp());
  for (;;) {
    auto exit = vp().run();
    if (!exit || !serve(*exit)) return exit;
  }
}

void GuestMachine::run_to_the_end() {
  const auto exit = run();
  ASSERT_TRUE(exit.has_value()) << exit.error().message();
  const auto* failure = std::get_if<FailureExit>(&*exit);
  ASSERT_EQ(failure, nullptr) << failure->why;
  const auto* port = std::get_if<PortExit>(&*exit);
  ASSERT_NE(port, nullptr) << "exit kind " << exit->index() << " at " << std::hex
                           << register_number(vp(), RegisterName::Rip);
  EXPECT_EQ(port->port, kDonePort);
}

Result<GuestMachine::Saved> GuestMachine::save_frozen() {
  auto partition = partition_->save();
  if (!partition) return std::unexpected(partition.error());
  Saved saved{.partition = std::move(*partition), .vps = {}};
  for (const auto& vp : vps_) {
    auto unit = vp->save();
    if (!unit) return std::unexpected(unit.error());
    saved.vps.push_back(std::move(*unit));
  }
  return saved;
}

Result<GuestMachine::Saved> GuestMachine::save() {
  if (auto frozen = partition_->freeze_time(); !frozen) return std::unexpected(frozen.error());
  auto saved = save_frozen();
  if (auto thawed = partition_->thaw_time(); !thawed) return std::unexpected(thawed.error());
  return saved;
}

Result<> GuestMachine::restore(const Saved& saved) {
  if (auto frozen = partition_->freeze_time(); !frozen) return frozen;
  if (auto restored = partition_->restore(saved.partition); !restored) return restored;
  for (std::size_t index = 0; index < vps_.size(); ++index) {
    auto unit = state::SavedUnit::parse(saved.vps[index].serialize());
    if (!unit) return std::unexpected(unit.error());
    if (auto restored = vps_[index]->restore(*unit); !restored) return restored;
  }
  // What was restored is what was saved: nothing was left out, and no time has passed.
  auto again = save_frozen();
  if (!again) return std::unexpected(again.error());
  for (std::size_t index = 0; index < vps_.size(); ++index) {
    for (const auto& [name, value] : saved.vps[index].fields()) {
      EXPECT_EQ(again->vps[index].fields().at(name) == value, true) << "processor " << index << ", field " << name;
    }
  }
  EXPECT_TRUE(*again == saved);
  return partition_->thaw_time();
}

std::unique_ptr<GuestMachine> GuestMachine::move(Engine& engine) {
  const auto saved = save();
  EXPECT_TRUE(saved.has_value()) << saved.error().message();
  auto machine = create(engine, settings_);
  EXPECT_TRUE(machine.has_value()) << machine.error().message();
  if (!saved || !machine) return nullptr;
  const auto memory = memory_->regions().front();
  (*machine)->write(memory.base, memory.bytes);
  const auto restored = (*machine)->restore(*saved);
  EXPECT_TRUE(restored.has_value()) << restored.error().message();
  return restored ? std::move(*machine) : nullptr;
}

std::vector<std::uint32_t> GuestMachine::words() const {
  std::vector<std::uint32_t> data;
  for (const auto& write : port_writes) {
    if (write.port == 0x10) data.push_back(write.data);
  }
  return data;
}

}  // namespace bulkhead::engine
