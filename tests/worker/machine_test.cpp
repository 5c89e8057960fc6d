// SPDX-License-Identifier: Apache-2.0
#include "worker/machine.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "engine/fake/fake_engine.hpp"
#include "tests/firmware/kernels.hpp"

namespace bulkhead::worker {
namespace {

using namespace std::chrono_literals;
using namespace engine;

FileDescriptor file_with(std::span<const std::uint8_t> bytes) {
  const int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
  EXPECT_EQ(write(file, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  return FileDescriptor(file);
}

/// A file with the smallest Multiboot 1 image there is: a header with addresses, and one HLT.
FileDescriptor tiny_kernel() {
  struct Image {
    std::uint32_t magic = 0x1badb002;
    std::uint32_t flags = 1 << 16;
    std::uint32_t checksum = 0u - 0x1badb002u - (1u << 16);
    std::uint32_t header_address = 0x100000;
    std::uint32_t load_address = 0x100000;
    std::uint32_t load_end_address = 0;
    std::uint32_t bss_end_address = 0;
    std::uint32_t entry_address = 0x100020;
    std::uint32_t code = 0xf4f4f4f4;
  } image;
  return file_with({reinterpret_cast<const std::uint8_t*>(&image), sizeof image});
}

class MachineTest : public testing::Test, protected MachineObserver {
 protected:
  MachineSettings settings(std::uint32_t vp_count = 1) {
    MachineSettings made;
    made.memory_size = 16 << 20;
    made.vp_count = vp_count;
    made.kernel = tiny_kernel();
    made.debug_exit = true;
    return made;
  }

  void create(MachineSettings chosen) {
    auto made = Machine::create(event_loop_, engine_, *this, std::move(chosen));
    ASSERT_TRUE(made.has_value()) << made.error().message();
    machine_ = std::move(*made);
  }

  std::string error_of(MachineSettings chosen) {
    auto made = Machine::create(event_loop_, engine_, *this, std::move(chosen));
    return made ? "" : made.error().message();
  }

  /// Runs until the machine has ended; gives how.
  Ending run_to_end() {
    EXPECT_TRUE(machine_->start());
    return wait_for_end();
  }
  Ending wait_for_end() {
    event_loop_.restart();
    event_loop_.run_for(10s);
    EXPECT_TRUE(ending_.has_value()) << "the machine did not end";
    return ending_.value_or(Ending{EndingKind::NotStarted});
  }

  FakeProcessor& vp(std::uint32_t index = 0) { return guest_->vp(index); }
  void guest_writes(std::uint16_t port, std::uint32_t value, std::uint8_t size = 1) {
    vp().exit(PortExit{.port = port, .size = size, .write = true, .data = value});
  }

  void restarted(const std::string& why) override { restarts_.push_back(why); }
  void ended(const Ending& ending) override {
    ending_ = ending;
    event_loop_.stop();
  }

  boost::asio::io_context event_loop_;
  std::shared_ptr<FakeGuest> guest_ = std::make_shared<FakeGuest>();
  FakeEngine engine_{guest_};
  std::optional<Ending> ending_;
  std::vector<std::string> restarts_;
  std::unique_ptr<Machine> machine_;
};

TEST_F(MachineTest, EndsWhenTheGuestPowersOff) {
  create(settings(2));
  guest_writes(0x604, 0x2000 | 5 << 10, 2);
  EXPECT_EQ(run_to_end().kind, EndingKind::PoweredOff);
}

TEST_F(MachineTest, EndsWhenTheGuestResets) {
  create(settings());
  guest_writes(0x64, 0xfe);
  EXPECT_EQ(run_to_end().kind, EndingKind::Reset);
}

TEST_F(MachineTest, EndsWithTheGuestsOwnValue) {
  create(settings());
  guest_writes(0x501, 5);
  EXPECT_EQ(run_to_end(), (Ending{EndingKind::Exited, "", 11}));
}

TEST_F(MachineTest, EndsWhenTheGuestPanics) {
  create(settings());
  guest_writes(0x505, 1);
  EXPECT_EQ(run_to_end().kind, EndingKind::Panicked);
}

TEST_F(MachineTest, AGuestsLastWordsAreTheEnding) {
  create(settings());
  guest_writes(0x505, 1);
  vp(0).exit(
      CrashExit{.parameters = {1, 2, 3, 4, 5}, .text = "[ 1.5] Oops\n[ 1.6] Kernel panic - not syncing: \x1b[2J\n"});
  const Ending ending = run_to_end();
  EXPECT_EQ(ending.kind, EndingKind::Panicked);
  EXPECT_EQ(to_line(ending), "panicked: Kernel panic - not syncing: ?[2J");
  EXPECT_EQ(ending.text, "[ 1.5] Oops\n[ 1.6] Kernel panic - not syncing: ?[2J\n");
}

TEST_F(MachineTest, AGuestThatPanicsAndRestartsHasPanicked) {
  create(settings());
  guest_writes(0x505, 1);
  vp(0).exit(ResetExit{});
  EXPECT_EQ(run_to_end().kind, EndingKind::Panicked);
}

TEST_F(MachineTest, ACrashWithoutWordsIsToldByItsRegisters) {
  create(settings());
  vp(0).exit(CrashExit{.parameters = {0xa, 0, 0, 0, 0xb}, .text = ""});
  EXPECT_EQ(to_line(run_to_end()), "panicked: crash registers 0xa 0x0 0x0 0x0 0xb");
}

TEST_F(MachineTest, EndsWhenTheGuestResetsItsPartition) {
  create(settings());
  vp(0).exit(ResetExit{});
  EXPECT_EQ(run_to_end().kind, EndingKind::Reset);
}

TEST_F(MachineTest, EndsWhenAProcessorShutsDown) {
  create(settings(3));
  vp(2).exit(TripleFaultExit{});
  EXPECT_EQ(run_to_end(), (Ending{EndingKind::TripleFault, "processor 2"}));
}

TEST_F(MachineTest, EndsWhenAnInstructionCannotBeEmulated) {
  create(settings());
  vp().exit(FailureExit{.why = "what is this?"});
  EXPECT_EQ(run_to_end(), (Ending{EndingKind::Failed, "processor 0: what is this?"}));
}

TEST_F(MachineTest, EndsWhenTheEngineFails) {
  create(settings());
  vp().fail("the hypervisor is gone");
  EXPECT_EQ(run_to_end(), (Ending{EndingKind::Failed, "processor 0: the hypervisor is gone"}));
}

TEST_F(MachineTest, EndsFromOutside) {
  create(settings(2));
  ASSERT_TRUE(machine_->start());
  ASSERT_TRUE(vp().wait_until_halted());
  machine_->end("signal TERM");
  EXPECT_EQ(wait_for_end(), (Ending{EndingKind::Stopped, "signal TERM"}));
}

TEST_F(MachineTest, TheFirstRequestCounts) {
  create(settings(2));
  guest_writes(0x604, 0x2000 | 5 << 10, 2);
  guest_writes(0x64, 0xfe);
  EXPECT_EQ(run_to_end().kind, EndingKind::PoweredOff);
}

TEST_F(MachineTest, RestartsWhereTheSettingsSaySo) {
  auto chosen = settings(2);
  chosen.restart_on_reset = true;
  create(std::move(chosen));
  guest_writes(0x64, 0xfe);
  vp().exit(CancelledExit{});
  vp().exit(TripleFaultExit{});
  guest_writes(0x604, 0x2000 | 5 << 10, 2);
  EXPECT_EQ(run_to_end().kind, EndingKind::PoweredOff);
  ASSERT_EQ(restarts_.size(), 2u);
  EXPECT_TRUE(restarts_[0].starts_with("reset"));
  EXPECT_EQ(restarts_[1], "triple fault (processor 0)");
}

TEST_F(MachineTest, BringsBackTheKernelAtARestart) {
  auto chosen = settings();
  chosen.restart_on_reset = true;
  create(std::move(chosen));
  std::uint32_t code = 0;
  std::memset(guest_->memory()->at(0x100020, 4)->data(), 0, 4);
  guest_writes(0xcf9, 6);
  guest_writes(0x501, 0);
  run_to_end();
  ASSERT_TRUE(guest_->memory()->read(0x100020, std::span(reinterpret_cast<std::uint8_t*>(&code), 4)));
  EXPECT_EQ(code, 0xf4f4f4f4u);
}

TEST_F(MachineTest, TheProcessorBeginsAtTheKernelsEntry) {
  create(settings());
  ASSERT_TRUE(vp().get(abi::RegisterName::Rip).has_value());
  EXPECT_EQ(vp().get(abi::RegisterName::Rip)->number, 0x100020u);
  EXPECT_EQ(vp().get(abi::RegisterName::Rax)->number, 0x2badb002u);
}

TEST_F(MachineTest, WhatTheGuestPrintedArrivesBeforeTheEnd) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
  FileDescriptor peer(ends[0]);
  auto chosen = settings();
  chosen.com1 = FileDescriptor(ends[1]);
  create(std::move(chosen));
  for (const char letter : std::string_view("bye\n")) guest_writes(0x3f8, static_cast<unsigned char>(letter));
  guest_writes(0x604, 0x2000 | 5 << 10, 2);
  run_to_end();
  char text[16] = {};
  EXPECT_EQ(read(peer.get(), text, sizeof text), 4);
  EXPECT_STREQ(text, "bye\n");
}

TEST_F(MachineTest, ReadsAreCompleted) {
  create(settings());
  vp().exit(PortExit{.port = 0x3fd, .size = 1, .write = false, .data = 0});
  vp().exit(PortExit{.port = 0x999, .size = 2, .write = false, .data = 0});
  vp().exit(MmioExit{.address = 0xfec00000, .size = 4, .write = false, .data = 0});
  vp().exit(MmioExit{.address = 0xd0000000, .size = 8, .write = false, .data = 0});
  guest_writes(0x501, 0);
  run_to_end();
  EXPECT_EQ(vp().completed_reads(), (std::vector<std::uint64_t>{0x60, 0xffff, 0, UINT64_MAX}));
}

TEST_F(MachineTest, CanBeDestroyedWhileItRuns) {
  for (int i = 0; i < 20; ++i) {
    create(settings(4));
    ASSERT_TRUE(machine_->start());
    machine_.reset();
  }
}

TEST_F(MachineTest, SaysWhyItCannotBeMade) {
  EXPECT_EQ(error_of(settings(9999)), "9999 processors were asked for; the fake engine gives 1 to 64");
  EXPECT_EQ(error_of(settings(0)), "0 processors were asked for; the fake engine gives 1 to 64");

  auto odd = settings();
  odd.memory_size = 4096;
  EXPECT_EQ(error_of(std::move(odd)), "the memory size must be a multiple of 1 MiB");

  auto huge = settings();
  huge.memory_size = std::uint64_t{1} << 50;
  EXPECT_TRUE(error_of(std::move(huge)).starts_with("1073741824 MiB of memory were asked for; this host has "));

  auto with_vmbus = settings();
  with_vmbus.vmbus = true;
  EXPECT_EQ(error_of(std::move(with_vmbus)), "VMBus needs SynICs, which the fake engine does not have here");

  auto no_kernel = settings();
  no_kernel.kernel = FileDescriptor(open("/dev/null", O_RDONLY));
  EXPECT_EQ(error_of(std::move(no_kernel)), "the kernel is not a regular file");

  auto text = settings();
  text.kernel = FileDescriptor(open("/etc/os-release", O_RDONLY));
  const std::string path = std::filesystem::canonical("/etc/os-release");
  EXPECT_EQ(error_of(std::move(text)),
            "cannot load '" + path + "': the kernel is neither a Linux bzImage nor a Multiboot image");
}

TEST_F(MachineTest, AKernelThatIsCutShortWhileItsBiosReadsItEndsTheMachine) {
  auto chosen = settings();
  chosen.bios = file_with(std::vector<std::uint8_t>(0x2'0000));
  chosen.boot_rom = file_with(std::vector<std::uint8_t>(512));
  chosen.kernel = file_with(firmware::bzimage());
  const FileDescriptor kernel(dup(chosen.kernel.get()));
  create(std::move(chosen));
  ASSERT_EQ(ftruncate(kernel.get(), 4096), 0);

  // A transfer of 8 KiB of the kernel (item 11h) to 1 MiB, as the boot ROM asks for it: all big endian.
  const std::vector<std::uint8_t> command{0, 0x11, 0, 0x0a, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0x10, 0, 0};
  ASSERT_TRUE(guest_->memory()->write(0x1000, command));
  guest_writes(0x518, 0x0010'0000, 4);
  const Ending ending = run_to_end();
  EXPECT_EQ(ending.kind, EndingKind::Failed);
  EXPECT_TRUE(ending.detail.starts_with("cannot load '/tmp/")) << ending.detail;
  EXPECT_TRUE(ending.detail.ends_with("': it has become shorter while it was read")) << ending.detail;
}

TEST_F(MachineTest, ThereIsAVmbusWhereTheEngineCan) {
  create(settings());
  EXPECT_EQ(machine_->integration(), nullptr);
  FakeEngine engine(guest_, {.name = "fake", .maximum_vps = 64, .tsc_frequency = 1'000'000'000, .synic = true});
  machine_ = Machine::create(event_loop_, engine, *this, settings()).value();
  EXPECT_TRUE(guest_->settings().synic);
  ASSERT_NE(machine_->integration(), nullptr);
  EXPECT_NE(machine_->integration()->heartbeat(), nullptr);
  EXPECT_NE(machine_->integration()->file_copy(), nullptr);
  auto without = settings();
  without.vmbus = false;
  machine_ = Machine::create(event_loop_, engine, *this, std::move(without)).value();
  EXPECT_FALSE(guest_->settings().synic);
  EXPECT_EQ(machine_->integration(), nullptr);
  machine_.reset();
}

TEST_F(MachineTest, EachIntegrationServiceCanBeSwitchedOff) {
  FakeEngine engine(guest_, {.name = "fake", .maximum_vps = 64, .tsc_frequency = 1'000'000'000, .synic = true});
  for (unsigned off = 0; off < 6; ++off) {
    auto chosen = settings();
    IntegrationChoice& choice = chosen.integration;
    bool* const all[] = {&choice.heartbeat,          &choice.shutdown,        &choice.time_synchronization,
                         &choice.key_value_exchange, &choice.volume_snapshot, &choice.file_copy};
    *all[off] = false;
    machine_ = Machine::create(event_loop_, engine, *this, std::move(chosen)).value();
    auto& services = *machine_->integration();
    EXPECT_EQ(services.heartbeat() == nullptr, off == 0);
    EXPECT_EQ(services.shutdown() == nullptr, off == 1);
    EXPECT_EQ(services.key_value_exchange() == nullptr, off == 3);
    EXPECT_EQ(services.volume_snapshot() == nullptr, off == 4);
    EXPECT_EQ(services.file_copy() == nullptr, off == 5);
    state::Inspection node;
    machine_->inspect(node);
    unsigned offered = 0;
    for (const auto& [name, child] : node.children()) {
      offered += name == "heartbeat" || name == "shutdown" || name == "time-synchronization" ||
                 name == "key-value-exchange" || name == "volume-snapshot" || name == "file-copy";
    }
    EXPECT_EQ(offered, 5u);
    machine_.reset();
  }
}

TEST_F(MachineTest, DynamicMemoryNeedsAnEngineThatTakesMemory) {
  Capabilities capabilities{.name = "fake", .maximum_vps = 64, .tsc_frequency = 1'000'000'000, .synic = true};
  FakeEngine cannot(guest_, capabilities);
  const auto dynamic = [this](std::uint64_t minimum, std::uint64_t maximum) {
    auto chosen = settings();
    chosen.dynamic_memory = DynamicMemorySettings{.minimum = minimum, .maximum = maximum};
    return chosen;
  };
  const auto error_with = [&](Engine& engine, MachineSettings chosen) {
    auto made = Machine::create(event_loop_, engine, *this, std::move(chosen));
    return made ? "" : made.error().message();
  };
  EXPECT_EQ(error_with(cannot, dynamic(8 << 20, 64 << 20)),
            "dynamic memory needs an engine that can take memory back from a guest, which the fake engine cannot");
  capabilities.takes_memory = true;
  FakeEngine can(guest_, capabilities);
  EXPECT_EQ(error_with(can, dynamic((8 << 20) + 4096, 64 << 20)),
            "the sizes of dynamic memory must be multiples of 2 MiB");
  EXPECT_EQ(error_with(can, dynamic(8 << 20, 8 << 20)), "the most memory is less than that at the start");
  EXPECT_EQ(error_with(can, dynamic(32 << 20, 64 << 20)),
            "the least memory, 32 MiB, must be more than 0 and no more than the 16 MiB at the start");
  machine_ = Machine::create(event_loop_, can, *this, dynamic(8 << 20, 64 << 20)).value();
  EXPECT_TRUE(guest_->settings().memory_changes);
  EXPECT_NE(machine_->dynamic_memory(), nullptr);
  EXPECT_TRUE(guest_->has_page(0));
  EXPECT_FALSE(guest_->has_page(128 << 20)) << "room for more, which it does not begin with";
  machine_.reset();
}

TEST_F(MachineTest, ShowsTheStateOfAllUnits) {
  create(settings());
  state::Inspection node;
  machine_->inspect(node);
  EXPECT_GE(node.children().size(), 10u);
}

}  // namespace
}  // namespace bulkhead::worker
