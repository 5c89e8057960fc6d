// SPDX-License-Identifier: Apache-2.0
// What the requests of the control socket do to a machine, and what they say when they cannot.
#include "worker/control/commands.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "abi/integration/file_copy.hpp"
#include "abi/integration/heartbeat.hpp"
#include "abi/integration/key_value.hpp"
#include "abi/integration/shutdown.hpp"
#include "abi/integration/volume_snapshot.hpp"
#include "tests/vsp/integration/service_guest.hpp"
#include "tests/vsp/memory/memory_guest.hpp"
#include "tests/worker/control/control_test.hpp"

namespace bulkhead::worker::control {
namespace {

using namespace std::chrono_literals;
using namespace vsp::integration;
using vsp::memory::MemoryGuest;

constexpr std::uint64_t kMiB = 1 << 20;

/// A machine of which a test can see what was done to it. Its services are on a bus without a guest until one is made.
class TestMachine final : public ControlledMachine, public IntegrationObserver {
 public:
  TestMachine() { make_services({}); }
  void make_services(const IntegrationChoice& choice) {
    IntegrationObserver& observer = *this;
    services.emplace(choice, clock, wall_clock, nullptr, observer);
  }

  MachineFacts facts() override {
    return {.name = "test",
            .engine = "fake",
            .vp_count = 2,
            .memory_size = 256 * kMiB,
            .paused = paused,
            .uptime_milliseconds = 12'500,
            .restarts = 3};
  }
  void inspect(state::Inspection& node) override {
    node.value("flag", true).value("number", std::uint64_t{7});
    node.child("child").value("text", "x");
  }
  Result<> pause() override {
    if (paused) return fail("the machine is paused already");
    paused = true;
    return {};
  }
  Result<> resume() override {
    if (!paused) return fail("the machine is not paused");
    paused = false;
    return {};
  }
  void turn_off() override { done.emplace_back("turned off"); }
  void reset() override { done.emplace_back("reset"); }
  Result<std::uint8_t> attach_disk(DiskAttachment disk) override {
    if (disk_error) return fail(*disk_error);
    attached.push_back(std::move(disk));
    return std::uint8_t{5};
  }
  Result<> detach_disk(std::uint8_t number, std::function<void(Result<>)> closed) override {
    if (disk_error) return fail(*disk_error);
    done.push_back("detach " + std::to_string(number));
    gone = std::move(closed);
    return {};
  }
  Result<> grow_disk(std::uint8_t number, std::uint64_t size) override {
    if (disk_error) return fail(*disk_error);
    done.push_back("grow " + std::to_string(number) + " to " + std::to_string(size));
    return {};
  }
  Result<> set_disk_limits(std::uint8_t number, vsp::storage::Limits limits) override {
    if (disk_error) return fail(*disk_error);
    done.push_back("limit " + std::to_string(number) + " to " + std::to_string(limits.operations_per_second) + ", " +
                   std::to_string(limits.bytes_per_second));
    return {};
  }
  std::unique_lock<std::mutex> hold() override { return std::unique_lock(lock); }
  IntegrationServices* integration() override { return services ? &*services : nullptr; }
  vsp::memory::DynamicMemory* dynamic_memory() override { return memory; }

  void heartbeat_changed(HeartbeatState) override {}
  void file_systems_let_go() override {}

  std::mutex lock;
  state::FakeClock clock;
  state::FakeWallClock wall_clock{clock, 1'700'000'000};
  std::optional<IntegrationServices> services;
  vsp::memory::DynamicMemory* memory = nullptr;
  bool paused = false;
  std::vector<std::string> done;
  std::vector<DiskAttachment> attached;
  std::optional<std::string> disk_error;
  std::function<void(Result<>)> gone;
};

class CommandsTest : public testing::Test {
 protected:
  Json call(const std::string& request, const std::vector<int>& files = {}) { return client.call(request, files); }
  std::string error_of(const std::string& request, const std::vector<int>& files = {}) {
    return client.error_of(request, files);
  }
  /// The guest's end of a service.
  ServiceDriver& guest(Service& service, Version version) {
    buses.push_back(std::make_unique<vmbus::FakeGuest>());
    drivers.push_back(std::make_unique<ServiceDriver>(machine.clock, service, *buses.back()));
    drivers.back()->connect(version);
    return *drivers.back();
  }

  RunFolder folder;
  boost::asio::io_context event_loop;
  TestMachine machine;
  Commands commands{event_loop, machine};
  Endpoint endpoint = make_endpoint("test").value();
  Server server{event_loop, std::move(endpoint.listener), commands};
  TestClient client{event_loop, connect_to_machine("test").value()};
  std::vector<std::unique_ptr<vmbus::FakeGuest>> buses;
  std::vector<std::unique_ptr<ServiceDriver>> drivers;
};

TEST_F(CommandsTest, StatusSaysHowTheMachineIs) {
  const auto status = call(R"({"do":"status"})")["result"];
  EXPECT_EQ(status["name"], "test");
  EXPECT_EQ(status["state"], "running");
  EXPECT_EQ(status["engine"], "fake");
  EXPECT_EQ(status["vps"], 2);
  EXPECT_EQ(status["uptime"], 12.5);
  EXPECT_EQ(status["restarts"], 3);
  EXPECT_EQ(status["heartbeat"], "no contact");
  EXPECT_EQ(status["guest"], Json::object());
  EXPECT_EQ(status["memory"].dump(), R"({"dynamic":false,"assigned":268435456})");
}

TEST_F(CommandsTest, StatusShowsWhatTheGuestSays) {
  auto& heart = guest(*machine.services->heartbeat(), {3, 0});
  const auto beat = heart.receive();
  auto body = beat->as<abi::integration::Heartbeat>();
  ++body.sequence;
  heart.answer_with(*beat, body);

  auto& kvp = guest(*machine.services->key_value_exchange(), {4, 0});
  const std::vector<std::pair<std::u16string, std::u16string>> facts = {
      {u"FullyQualifiedDomainName", u"web.example"},
      {u"OSName", u"Debian GNU/Linux"},
      {u"OSBuildNumber", u"6.1.0"},
      {u"NetworkAddressIPv4", u"192.0.2.17;198.51.100.1"},
      {u"NetworkAddressIPv6", u";fe80::1;"}};
  while (const auto request = kvp.receive()) {
    auto item = request->as<abi::integration::KeyEnumerateMessage>();
    if (item.index >= facts.size()) {
      kvp.answer(*request, request->body, Status::NoMoreItems);
      continue;
    }
    const auto& [key, value] = facts[item.index];
    std::memcpy(item.item.key, key.data(), key.size() * 2);
    std::memcpy(item.item.value, value.data(), value.size() * 2);
    item.item.key_size = static_cast<std::uint32_t>(key.size() * 2 + 2);
    item.item.value_size = static_cast<std::uint32_t>(value.size() * 2 + 2);
    kvp.answer_with(*request, item);
  }
  const auto status = call(R"({"do":"status"})")["result"];
  EXPECT_EQ(status["heartbeat"], "ok");
  EXPECT_EQ(status["guest"]["hostName"], "web.example");
  EXPECT_EQ(status["guest"]["osName"], "Debian GNU/Linux");
  EXPECT_EQ(status["guest"]["kernel"], "6.1.0");
  EXPECT_EQ(status["guest"]["addresses"], (Json{"192.0.2.17", "198.51.100.1", "fe80::1"}));
  EXPECT_FALSE(status["guest"].contains("architecture"));
}

TEST_F(CommandsTest, StatusShowsWhatAGuestDoesWrong) {
  auto& heart = guest(*machine.services->heartbeat(), {3, 0});
  heart.send_raw({});                              // no message
  heart.answer(*heart.receive(), {}, Status::Ok);  // cut short
  machine.clock.advance(20s);
  MemoryGuest memory;
  memory.connect();
  memory.give({{0, 1}});
  machine.memory = &memory.provider;
  const auto status = call(R"({"do":"status"})")["result"];
  const auto& shown = status["services"]["heartbeat"];
  EXPECT_EQ(shown["phase"], "ready");
  EXPECT_EQ(shown["version"], "3.0");
  EXPECT_EQ(shown["malformed"], 2);
  EXPECT_GT(shown["unanswered"], 0);
  EXPECT_EQ(shown["unexpected"], 0);
  EXPECT_EQ(status["services"]["shutdown"]["phase"], "closed");
  EXPECT_EQ(status["services"].size(), 6u);
  EXPECT_EQ(status["memory"]["refused"], 1);
}

TEST_F(CommandsTest, InspectIsTheLiveTree) {
  EXPECT_EQ(call(R"({"do":"inspect"})")["result"].dump(), R"({"flag":true,"number":7,"child":{"text":"x"}})");
}

TEST_F(CommandsTest, PauseAndResumeAndTheirErrors) {
  EXPECT_EQ(error_of(R"({"do":"resume"})"), "the machine is not paused");
  EXPECT_TRUE(call(R"({"do":"pause"})").contains("result"));
  EXPECT_EQ(call(R"({"do":"status"})")["result"]["state"], "paused");
  EXPECT_EQ(error_of(R"({"do":"pause"})"), "the machine is paused already");
  EXPECT_TRUE(call(R"({"do":"resume"})").contains("result"));
}

TEST_F(CommandsTest, TurnOffAndResetAreAnsweredBeforeTheyAreDone) {
  EXPECT_TRUE(call(R"({"do":"turn-off"})").contains("result"));
  EXPECT_TRUE(call(R"({"do":"reset"})").contains("result"));
  EXPECT_EQ(machine.done, (std::vector<std::string>{"turned off", "reset"}));
}

TEST_F(CommandsTest, AFieldThatIsUnknownOrOfAnotherKindIsAnErrorAndNothingIsDone) {
  for (const auto* what : {"status", "inspect", "pause", "resume", "turn-off", "reset", "thaw", "freeze", "shutdown"}) {
    EXPECT_EQ(error_of(std::string(R"({"do":")") + what + R"(","surprise":1})"), "\"surprise\" is not known here");
  }
  EXPECT_EQ(error_of(R"({"do":"fly"})"), "there is no command 'fly'");
  EXPECT_EQ(error_of(R"({"do":"shutdown","force":"yes"})"), "\"force\" is neither true nor false");
  EXPECT_EQ(error_of(R"({"do":"shutdown","kind":"explode"})"), "'explode' is none of power-off, reboot, hibernate");
  EXPECT_EQ(error_of(R"({"do":"shutdown","message":5})"), "\"message\" is not a text");
  EXPECT_EQ(error_of(R"({"do":"freeze","seconds":-1})"), "\"seconds\" is not a whole number");
  EXPECT_EQ(error_of(R"({"do":"freeze","seconds":1.5})"), "\"seconds\" is not a whole number");
  EXPECT_EQ(error_of(R"({"do":"kvp-get"})"), "\"key\" is missing");
  EXPECT_EQ(error_of(R"({"do":"kvp-set","key":"k"})"), "\"value\" is missing");
  EXPECT_EQ(error_of(R"({"do":"kvp-list","pool":"swimming"})"),
            "'swimming' is no pool; there are external, guest, auto, auto-external and internal");
  EXPECT_EQ(error_of(R"({"do":"set-addresses","adapter":"a","addresses":"10.0.0.1"})"), "\"addresses\" is not a list");
  EXPECT_EQ(error_of(R"({"do":"set-addresses","adapter":"a","addresses":[1]})"),
            "\"addresses\" has something in it that is not a text");
  EXPECT_TRUE(machine.done.empty());
  EXPECT_FALSE(machine.paused);
}

TEST_F(CommandsTest, WithoutTheGuestsPartEachServiceSaysSo) {
  EXPECT_EQ(error_of(R"({"do":"shutdown"})"), "the guest does not use the shutdown service");
  EXPECT_EQ(error_of(R"({"do":"kvp-get","key":"k"})"), "the guest does not use the key-value exchange");
  EXPECT_EQ(error_of(R"({"do":"freeze"})"), "the guest does not use the volume snapshot service");
  EXPECT_EQ(error_of(R"({"do":"freeze","seconds":0})"), "the time limit of a freeze is 1 to 600 s");
  EXPECT_EQ(error_of(R"({"do":"freeze","seconds":18446744073709551615})"), "the time limit of a freeze is 1 to 600 s");
  EXPECT_EQ(error_of(R"({"do":"thaw"})"), "the guest's file systems are not frozen, they are thawed");
  const auto file = nameless_file("x");
  EXPECT_EQ(error_of(R"({"do":"copy","folder":"/","name":"x"})", {file.get()}), "the guest does not use the file copy");
}

TEST_F(CommandsTest, EachServiceCanBeSwitchedOff) {
  const struct {
    bool IntegrationChoice::* service;
    std::string request;
    std::string error;
  } cases[] = {
      {&IntegrationChoice::shutdown, R"({"do":"shutdown"})", "the shutdown service is switched off for this machine"},
      {&IntegrationChoice::key_value_exchange, R"({"do":"kvp-list"})",
       "the key-value exchange is switched off for this machine"},
      {&IntegrationChoice::volume_snapshot, R"({"do":"freeze"})",
       "the volume snapshot service is switched off for this machine"},
      {&IntegrationChoice::file_copy, R"({"do":"copy","folder":"/","name":"x"})",
       "the file copy is switched off for this machine"}};
  const auto file = nameless_file("x");
  for (const auto& [service, request, error] : cases) {
    IntegrationChoice choice;
    choice.*service = false;
    machine.make_services(choice);
    const bool copies = service == &IntegrationChoice::file_copy;
    EXPECT_EQ(error_of(request, copies ? std::vector{file.get()} : std::vector<int>{}), error);
  }
}

TEST_F(CommandsTest, AHeartbeatThatIsSwitchedOffIsNotShown) {
  machine.services.reset();
  const auto status = call(R"({"do":"status"})")["result"];
  EXPECT_FALSE(status.contains("heartbeat"));
  EXPECT_FALSE(status.contains("guest"));
  EXPECT_EQ(error_of(R"({"do":"shutdown"})"), "this machine has no VMBus, and so no integration services");
  EXPECT_EQ(error_of(R"({"do":"kvp-list"})"), "this machine has no VMBus, and so no integration services");
}

TEST_F(CommandsTest, AShutdownIsAnsweredWhenTheGuestHasAgreed) {
  auto& service = guest(*machine.services->shutdown(), {3, 2});
  client.send(R"({"id":1,"do":"shutdown","kind":"reboot","force":true,"message":"bye"})"
              "\n");
  EXPECT_EQ(client.line(), std::nullopt);
  const auto request = service.receive();
  ASSERT_TRUE(request);
  EXPECT_EQ(request->as<abi::integration::Shutdown>().flags,
            abi::integration::ShutdownFlags::kRestart | abi::integration::ShutdownFlags::kForce);
  service.answer(*request);
  EXPECT_EQ(client.object().dump(), R"({"id":1,"result":{}})");
}

TEST_F(CommandsTest, AFreezeIsAnsweredWhenTheGuestIsFrozenAndAThawWhenItIsThawed) {
  auto& service = guest(*machine.services->volume_snapshot(), {5, 0});
  client.send(R"({"do":"freeze","seconds":5})"
              "\n");
  service.answer(*service.receive());
  EXPECT_EQ(client.line(), std::nullopt);
  service.answer(*service.receive());
  EXPECT_TRUE(client.object().contains("result"));
  client.send(R"({"do":"thaw"})"
              "\n");
  service.answer(*service.receive());
  EXPECT_TRUE(client.object().contains("result"));
}

TEST_F(CommandsTest, ACopyReadsTheFileThatCameWithIt) {
  auto& service = guest(*machine.services->file_copy(), {1, 1});
  const auto file = nameless_file("what is in it");
  client.send(R"({"do":"copy","folder":"/tmp/","name":"x","createFolder":true})"
              "\n",
              {file.get()});
  std::string arrived;
  for (unsigned turns = 0; turns < 20; ++turns) {
    client.turn();
    const auto message = service.receive();
    if (!message) continue;
    if (message->as<abi::integration::FileCopyHeader>().operation == abi::integration::FileCopyOperation::Write) {
      const auto body = message->as<abi::integration::FileCopyWrite>();
      arrived.append(body.data, body.data + body.size);
    }
    service.answer(*message);
  }
  EXPECT_EQ(arrived, "what is in it");
  EXPECT_TRUE(client.object().contains("result"));
}

TEST_F(CommandsTest, WhatCannotBeCopiedIsRefused) {
  guest(*machine.services->file_copy(), {1, 1});
  EXPECT_EQ(error_of(R"({"do":"copy","folder":"/","name":"x"})"), "one file's descriptor comes with this request");
  const auto file = nameless_file("x");
  EXPECT_EQ(error_of(R"({"do":"copy","folder":"/","name":"x"})", {file.get(), file.get()}),
            "one file's descriptor comes with this request");
  EXPECT_EQ(error_of(R"({"do":"copy","folder":"/","name":"a/b"})", {file.get()}), "'a/b' is no name of a file");
  EXPECT_EQ(error_of(R"({"do":"copy","name":"x"})", {file.get()}), "\"folder\" is missing");
  const engine::FileDescriptor directory(open("/tmp", O_RDONLY | O_DIRECTORY));
  EXPECT_EQ(error_of(R"({"do":"copy","folder":"/","name":"x"})", {directory.get()}), "what came is not a file");
}

TEST_F(CommandsTest, AClientThatGoesCancelsItsCopy) {
  auto& service = guest(*machine.services->file_copy(), {1, 1});
  const auto file = nameless_file("what is in it");
  TestClient other(event_loop, connect_to_machine("test").value());
  other.send(R"({"do":"copy","folder":"/","name":"x"})"
             "\n",
             {file.get()});
  service.answer(*service.receive());
  client.turn();
  const auto write = service.receive();
  ASSERT_TRUE(write);
  other.hang_up();
  client.turn();
  service.answer(*write);
  EXPECT_EQ(service.receive()->as<abi::integration::FileCopyHeader>().operation,
            abi::integration::FileCopyOperation::Cancel);
}

TEST_F(CommandsTest, MemoryLimitsAreMovedWithinReason) {
  EXPECT_EQ(error_of(R"({"do":"set-memory","minimum":1})"), "this machine's memory is not dynamic");
  MemoryGuest memory;
  machine.memory = &memory.provider;
  EXPECT_TRUE(call(R"({"do":"set-memory","maximum":536870912,"weight":10000})").contains("result"));
  const auto shown = call(R"({"do":"status"})")["result"]["memory"];
  EXPECT_EQ(shown["dynamic"], true);
  EXPECT_EQ(shown["maximum"], 512 * kMiB);
  EXPECT_EQ(shown["minimum"], 128 * kMiB);
  EXPECT_EQ(shown["buffer"], 20);
  EXPECT_EQ(shown["weight"], 10000);
  EXPECT_EQ(shown["assigned"], 256 * kMiB);
  EXPECT_EQ(shown["status"], "no driver");
  EXPECT_FALSE(shown.contains("demand"));
  EXPECT_EQ(error_of(R"({"do":"set-memory","maximum":2147483648})"), "this machine was made for at most 1024 MiB");
  EXPECT_EQ(error_of(R"({"do":"set-memory","minimum":0})"),
            "the least memory, 0 MiB, must be more than 0 and no more than the 256 MiB at the start");
  EXPECT_EQ(error_of(R"({"do":"set-memory","buffer":4294967296})"), "the memory buffer is 0 to 2000 percent");
  EXPECT_EQ(error_of(R"({"do":"set-memory","weight":10001})"), "the memory weight is 0 to 10000");
  EXPECT_EQ(error_of(R"({"do":"set-memory","maximum":"1G"})"), "\"maximum\" is not a whole number");
  EXPECT_EQ(memory.provider.limits().maximum, 512 * 256u);
}

TEST_F(CommandsTest, ADiskIsAttachedWithTheFilesThatCame) {
  const auto image = nameless_file("image"), base = nameless_file("base");
  EXPECT_EQ(call(R"({"id":1,"do":"attach-disk","format":"vhdx","number":5,"iops":100,"bps":4096,"readOnly":true,)"
                 R"("paths":["/a.avhdx","/b.vhdx"]})",
                 {image.get(), base.get()})
                .dump(),
            R"({"id":1,"result":{"number":5}})");
  ASSERT_EQ(machine.attached.size(), 1u);
  const auto& disk = machine.attached[0];
  EXPECT_EQ(disk.option.kind, "disk");
  EXPECT_EQ(disk.option.bus, "scsi");
  EXPECT_EQ(disk.option.format, "vhdx");
  EXPECT_EQ(disk.option.number, 5);
  EXPECT_EQ(disk.option.iops, 100u);
  EXPECT_EQ(disk.option.bps, 4096u);
  EXPECT_TRUE(disk.option.read_only);
  ASSERT_EQ(disk.files.size(), 2u);
  EXPECT_EQ(disk.option.files[1].path, "/b.vhdx");
  char text[5] = {};
  EXPECT_EQ(pread(disk.files[1].get(), text, 4, 0), 4);
  EXPECT_STREQ(text, "base");
}

TEST_F(CommandsTest, WhatIsNoDiskIsRefused) {
  const auto file = nameless_file("x");
  const auto attach = [&](const std::string& fields, unsigned files) {
    return error_of(R"({"do":"attach-disk")" + fields + "}", std::vector<int>(files, file.get()));
  };
  EXPECT_EQ(attach("", 0), "a disk needs a file");
  EXPECT_EQ(attach("", 1), "1 files came with the request, and \"paths\" names 0");
  EXPECT_EQ(attach(R"(,"paths":["a","b"])", 1), "1 files came with the request, and \"paths\" names 2");
  EXPECT_EQ(attach(R"(,"paths":["a"],"format":"qcow2")", 1), "\"format\" is none of raw, vhd, vhdx");
  EXPECT_EQ(attach(R"(,"paths":["a"],"number":64)", 1), "\"number\" is more than 63");
  EXPECT_EQ(attach(R"(,"paths":["a"],"number":"first")", 1), "\"number\" is not a whole number");
  EXPECT_EQ(attach(R"(,"paths":["a"],"bus":"ide")", 1), "\"bus\" is not known here");
  EXPECT_EQ(attach(R"(,"kind":"dvd","paths":["a","b"])", 2), "a DVD drive has one disc");
  EXPECT_EQ(attach(R"(,"kind":"tape","paths":["a"])", 1), "\"kind\" is none of disk, dvd");
  machine.disk_error = "there is a disk 5 on the SCSI controller";
  EXPECT_EQ(attach(R"(,"paths":["a"],"number":5)", 1), *machine.disk_error);
  EXPECT_TRUE(machine.attached.empty());
}

TEST_F(CommandsTest, ADetachIsAnsweredWhenTheImageIsClosed) {
  client.send(R"({"id":1,"do":"detach-disk","number":5})"
              "\n");
  EXPECT_EQ(client.line(), std::nullopt);
  machine.gone({});
  EXPECT_EQ(client.object().dump(), R"({"id":1,"result":{}})");
  client.send(R"({"id":2,"do":"detach-disk","number":6})"
              "\n");
  client.turn();
  machine.gone(fail("the host's disk is full"));
  EXPECT_EQ(client.object().value("error", ""), "the host's disk is full");
  EXPECT_EQ(error_of(R"({"do":"detach-disk"})"), "\"number\" is missing");
  machine.disk_error = "there is no disk 7";
  EXPECT_EQ(error_of(R"({"do":"detach-disk","number":7})"), "there is no disk 7");
}

TEST_F(CommandsTest, DisksAreResizedAndLimited) {
  EXPECT_TRUE(call(R"({"do":"resize-disk","number":3,"size":1048576})").contains("result"));
  EXPECT_TRUE(call(R"({"do":"set-limits","number":3,"iops":50})").contains("result"));
  EXPECT_TRUE(call(R"({"do":"set-limits","number":3})").contains("result"));
  EXPECT_EQ(machine.done, (std::vector<std::string>{"grow 3 to 1048576", "limit 3 to 50, 0", "limit 3 to 0, 0"}));
  EXPECT_EQ(error_of(R"({"do":"resize-disk","number":3})"), "\"size\" is missing");
  EXPECT_EQ(error_of(R"({"do":"set-limits","number":99})"), "\"number\" is more than 63");
}

}  // namespace
}  // namespace bulkhead::worker::control
