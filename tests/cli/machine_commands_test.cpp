// SPDX-License-Identifier: Apache-2.0
//
// The commands that speak to a running machine, as a user types them, and a machine that writes down what it was asked.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <boost/asio/executor_work_guard.hpp>
#include <fstream>
#include <thread>

#include "tests/cli/program.hpp"
#include "tests/worker/control/control_test.hpp"

namespace bulkhead::cli {
namespace {

using worker::control::Json;

class MachineCommands : public testing::Test, private worker::control::RequestHandler {
 protected:
  ~MachineCommands() override {
    event_loop.stop();
    thread.join();
  }
  /// What the machine was asked for by this command line, without its id; and how the program ended.
  std::string asked_by(const std::string& arguments) {
    asked.clear();
    outcome = run(arguments);
    return asked;
  }

  Outcome outcome{};
  std::string asked;
  std::vector<std::string> files;  // the content of those that came last
  Json answer = Json::object();
  std::string error;

 private:
  worker::control::Abandoned handle(const std::string&, const Json& request, worker::control::Files came,
                                    worker::control::Reply reply) override {
    Json shown = request;
    shown.erase("id");
    asked = shown.dump();
    files.clear();
    for (const auto& file : came) {
      std::array<char, 64> text{};
      const ssize_t count = pread(file.get(), text.data(), text.size(), 0);
      files.emplace_back(text.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    }
    if (error.empty())
      reply(answer);
    else
      reply(fail(error));
    return nullptr;
  }

  worker::control::RunFolder folder;
  boost::asio::io_context event_loop;
  worker::control::Endpoint endpoint = worker::control::make_endpoint("web").value();
  worker::control::Server server{event_loop, std::move(endpoint.listener), *this};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{event_loop.get_executor()};
  std::thread thread{[this] { event_loop.run(); }};
};

TEST_F(MachineCommands, EachAsksForWhatItSays) {
  const std::pair<const char*, const char*> cases[] = {
      {"stop web", R"({"do":"turn-off"})"},
      {"reset web", R"({"do":"reset"})"},
      {"pause web", R"({"do":"pause"})"},
      {"resume web", R"({"do":"resume"})"},
      {"thaw web", R"({"do":"thaw"})"},
      {"freeze web", R"({"do":"freeze","seconds":60})"},
      {"freeze web --seconds 5", R"({"do":"freeze","seconds":5})"},
      {"shutdown web", R"({"do":"shutdown","kind":"power-off","force":false})"},
      {"reboot web --force --message bye", R"({"do":"shutdown","kind":"reboot","force":true,"message":"bye"})"},
      {"hibernate web", R"({"do":"shutdown","kind":"hibernate","force":false})"},
      {"kvp set web role frontend", R"({"do":"kvp-set","key":"role","value":"frontend"})"},
      {"kvp delete web role --pool guest", R"({"do":"kvp-delete","pool":"guest","key":"role"})"},
      {"memory web --minimum 128M --maximum 1G --buffer 5 --weight 9",
       R"({"do":"set-memory","minimum":134217728,"maximum":1073741824,"buffer":5,"weight":9})"},
      {"addresses set web GUID --address 10.0.0.2 --subnet 255.0.0.0 --gateway 10.0.0.1 --dns 10.0.0.3",
       R"({"do":"set-addresses","adapter":"GUID","dhcp":false,"addresses":["10.0.0.2"],"subnets":["255.0.0.0"],)"
       R"("gateways":["10.0.0.1"],"dnsServers":["10.0.0.3"]})"},
      {"addresses set web GUID --dhcp",
       R"({"do":"set-addresses","adapter":"GUID","dhcp":true,"addresses":[],"subnets":[],"gateways":[],"dnsServers":[]})"},
      {"detach-disk web 3", R"({"do":"detach-disk","number":3})"},
      {"resize-disk web 3 20G", R"({"do":"resize-disk","number":3,"size":21474836480})"},
      {"limit-disk web 3 --iops 100 --bps 50M", R"({"do":"set-limits","number":3,"iops":100,"bps":52428800})"},
      {"limit-disk web 3", R"({"do":"set-limits","number":3,"iops":0})"},
  };
  for (const auto& [arguments, request] : cases) {
    EXPECT_EQ(asked_by(arguments), request);
    EXPECT_EQ(outcome.status, 0) << arguments << outcome.text;
    EXPECT_EQ(outcome.text, "") << arguments;
  }
}

TEST_F(MachineCommands, WhatIsAskedForIsPrinted) {
  answer = {{"value", "frontend"}};
  EXPECT_EQ(asked_by("kvp get web role"), R"({"do":"kvp-get","key":"role"})");
  EXPECT_EQ(outcome.text, "frontend\n");
  answer = Json::parse(R"({"items":[{"key":"a","value":"1"},{"key":"b","value":"2"}]})");
  EXPECT_EQ(asked_by("kvp list web --pool auto"), R"({"do":"kvp-list","pool":"auto"})");
  EXPECT_EQ(outcome.text, "a=1\nb=2\n");
  answer = Json::parse(R"({"name":"web","state":"running","engine":"kvm","vps":2,"uptime":3661.5,"restarts":0,
    "heartbeat":"ok","guest":{"hostName":"web","osName":"Debian GNU/Linux","kernel":"6.1.0","addresses":["192.0.2.17"]},
    "memory":{"dynamic":true,"status":"ok","assigned":268435456,"startup":268435456,"minimum":134217728,
              "maximum":1073741824,"buffer":20,"weight":5000,"demand":120586240}})");
  EXPECT_EQ(asked_by("status web"), R"({"do":"status"})");
  EXPECT_NE(outcome.text.find("uptime       1:01:01\n"), std::string::npos) << outcome.text;
  EXPECT_NE(outcome.text.find("heartbeat    ok\n"), std::string::npos);
  EXPECT_NE(outcome.text.find("addresses    192.0.2.17\n"), std::string::npos);
  EXPECT_NE(outcome.text.find("memory       256 MiB\n"), std::string::npos);
  EXPECT_NE(outcome.text.find("128 MiB to 1024 MiB, 256 MiB at the start, buffer 20 %, weight 5000"),
            std::string::npos);
  EXPECT_EQ(outcome.text.find("faults"), std::string::npos) << "there are none";
  answer["services"] = Json::parse(R"({"heartbeat":{"phase":"ready","unanswered":3,"unexpected":0,"malformed":1}})");
  asked_by("status web");
  EXPECT_NE(outcome.text.find("faults       heartbeat: 3 unanswered, 1 malformed\n"), std::string::npos)
      << outcome.text;
  asked_by("status web --json");
  EXPECT_EQ(Json::parse(outcome.text), answer);
}

TEST_F(MachineCommands, AFileGoesAlongOpened) {
  const std::string path = testing::TempDir() + "bulkhead-copied";
  std::ofstream(path) << "what is in it";
  EXPECT_EQ(asked_by("copy web " + path + " /root/notes --overwrite"),
            R"({"do":"copy","folder":"/root/","name":"notes","overwrite":true,"createFolder":false})");
  EXPECT_EQ(files, std::vector<std::string>{"what is in it"});
  EXPECT_EQ(asked_by("copy web " + path + " notes"), "");
  EXPECT_EQ(outcome.text, "bulkhead: web: 'notes' is no path of a file in the guest, such as /root/notes\n");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(asked_by("copy web /nowhere/x /root/x"), "");
  EXPECT_EQ(outcome.text, "bulkhead: web: cannot open '/nowhere/x': No such file or directory\n");
}

TEST_F(MachineCommands, ADiskGoesAlongOpened) {
  const std::string path = testing::TempDir() + "bulkhead-disk.raw";
  std::ofstream(path) << "sectors";
  answer = {{"number", 4}};
  EXPECT_EQ(
      asked_by("attach-disk web " + path + ",read-only,iops=7,number=4"),
      R"({"do":"attach-disk","kind":"disk","format":"raw","iops":7,"readOnly":true,"bps":0,"number":4,"paths":[")" +
          path + R"("]})");
  EXPECT_EQ(outcome.text, "4\n");
  EXPECT_EQ(files, std::vector<std::string>{"sectors"});
  EXPECT_EQ(asked_by("attach-disk web none --dvd"),
            R"({"do":"attach-disk","kind":"dvd","format":"raw","iops":0,"readOnly":true,"bps":0,"paths":[]})");
  EXPECT_EQ(asked_by("attach-disk web " + path + ",bus=ide"), "");
  EXPECT_EQ(outcome.text, "bulkhead: web: only SCSI disks can be attached to a running machine\n");
  EXPECT_EQ(asked_by("attach-disk web /nowhere.raw"), "");
  EXPECT_EQ(outcome.status, 1);
}

TEST_F(MachineCommands, WhatTheMachineSaysIsTheError) {
  error = "the guest does not answer";
  asked_by("shutdown web");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.text, "bulkhead: web: the guest does not answer\n");
}

TEST_F(MachineCommands, AMachineThatIsNotThereIsAnError) {
  const auto nobody = run("status nobody");
  EXPECT_EQ(nobody.status, 1);
  EXPECT_EQ(nobody.text, "bulkhead: nobody: no machine named 'nobody' is running\n");
  const auto elsewhere = run("status ../web");
  EXPECT_EQ(elsewhere.status, 1);
  EXPECT_NE(elsewhere.text.find("'../web' is no name of a machine"), std::string::npos);
}

TEST_F(MachineCommands, AWrongCommandLineGetsOneLineAndStatus2AndAsksForNothing) {
  for (const auto* arguments :
       {"status", "status web extra", "kvp", "kvp get web", "kvp set web key", "kvp fly web", "copy web a",
        "freeze web --seconds", "freeze web --seconds soon", "freeze web --seconds -1", "memory web --weight heavy",
        "addresses set web", "shutdown web --message", "detach-disk web", "detach-disk web first", "resize-disk web 1",
        "attach-disk web", "limit-disk web 0 --iops many"}) {
    EXPECT_EQ(asked_by(arguments), "") << arguments;
    EXPECT_EQ(outcome.status, 2) << arguments << ": " << outcome.text;
    EXPECT_EQ(outcome.text.find('\n'), outcome.text.size() - 1) << outcome.text;
    EXPECT_TRUE(outcome.text.starts_with("bulkhead: ")) << outcome.text;
  }
  for (const auto* arguments : {"memory web --maximum plenty", "resize-disk web 0 0", "limit-disk web 0 --bps fast"}) {
    EXPECT_EQ(asked_by(arguments), "") << arguments;
    EXPECT_EQ(outcome.status, 1) << arguments;
    EXPECT_NE(outcome.text.find("is not a size; write for example 512M or 2G"), std::string::npos) << outcome.text;
  }
}

}  // namespace
}  // namespace bulkhead::cli
