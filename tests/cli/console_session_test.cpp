// SPDX-License-Identifier: Apache-2.0
#include "cli/console_session.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <fstream>

#include "cli/terminal.hpp"

namespace bulkhead::cli {
namespace {

using engine::FileDescriptor;

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    reader = FileDescriptor(ends[0]);
    writer = FileDescriptor(ends[1]);
  }
  FileDescriptor reader;
  FileDescriptor writer;
};

/// A session with a shell script in the worker's place. The script finds its descriptors as $com1 and $report.
class ConsoleSessionTest : public testing::Test {
 protected:
  void start_worker(const std::string& script) {
    const std::string path = testing::TempDir() + "/worker-" + std::to_string(getpid());
    std::ofstream(path) << "#!/bin/bash\n"
                           "while [ $# -gt 0 ]; do case $1 in\n"
                           "--com1-fd) com1=$2; shift;; --report-fd) report=$2; shift;; esac; shift; done\n"
                           "say() { echo \"$1\" >&$report; }\n"
                           "say '{\"event\":\"started\",\"engine\":\"fake\"}'\n"
                        << script << "\n";
    chmod(path.c_str(), 0755);
    std::array<int, 2> ends{};
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    console_ = FileDescriptor(ends[0]);
    worker::CommandLine settings;
    settings.memory_size = 1 << 20;
    WorkerFiles files;
    files.kernel = FileDescriptor(open("/dev/null", O_RDONLY | O_CLOEXEC));
    files.com1 = FileDescriptor(ends[1]);
    auto worker = WorkerProcess::start(path, settings, std::move(files));
    ASSERT_TRUE(worker.has_value());
    worker_.emplace(std::move(*worker));
  }

  WorkerEnd run(InputKind input = InputKind::Bytes) {
    ConsoleSession session(*worker_, std::move(console_),
                           {.input = input_.reader.get(), .output = output_.writer.get()});
    return session.run(input);
  }

  void type(std::string_view text) {
    EXPECT_EQ(write(input_.writer.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  std::string screen() {
    std::string text(65536, '\0');
    output_.writer = {};
    std::string all;
    for (ssize_t count = 0; (count = read(output_.reader.get(), text.data(), text.size())) > 0;) {
      all += text.substr(0, static_cast<std::size_t>(count));
    }
    return all;
  }

  Pipe input_;
  Pipe output_;
  FileDescriptor console_;
  std::optional<WorkerProcess> worker_;
};

constexpr const char* kPoweredOff = R"(say '{"event":"ended","how":"powered off","detail":"ACPI","status":0}')";

TEST_F(ConsoleSessionTest, ShowsAllThatTheGuestPrintsAndHowItEnded) {
  start_worker(std::string("head -c 30000 /dev/zero | tr '\\0' x >&$com1; ") + kPoweredOff + "; exit 0");
  const auto end = run();
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(end.line, "powered off (ACPI)");
  EXPECT_TRUE(end.started);
  EXPECT_EQ(screen(), std::string(30000, 'x'));
}

TEST_F(ConsoleSessionTest, PassesOnWhatTheUserTypes) {
  start_worker(std::string("read -r line <&$com1; echo \"got $line\" >&$com1; ") + kPoweredOff);
  type("hello\n");
  run();
  EXPECT_EQ(screen(), "got hello\n");
}

TEST_F(ConsoleSessionTest, TheEndOfAPipeReachesTheGuestAndEndsNothing) {
  start_worker(std::string("cat <&$com1 | tr a-z A-Z >&$com1; ") + kPoweredOff);
  type("all of it, \x1d too");
  input_.writer = {};
  const auto end = run();
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(screen(), "ALL OF IT, \x1d TOO");
}

TEST_F(ConsoleSessionTest, TheLeaveKeyEndsTheMachine) {
  start_worker(
      "trap 'say \"{\\\"event\\\":\\\"ended\\\",\\\"how\\\":\\\"stopped\\\",\\\"detail\\\":\\\"signal "
      "TERM\\\",\\\"status\\\":84}\"; exit 84' TERM; read -r line <&$com1; echo $line >&$com1; while :; do sleep "
      "0.05; done");
  type("before\n\x1d");
  type("after");
  const auto end = run(InputKind::Keys);
  EXPECT_EQ(end.status, 84);
  EXPECT_EQ(end.line, "stopped (left by Ctrl-])");
}

TEST_F(ConsoleSessionTest, AWorkerThatIsKilledIsAFailure) {
  start_worker("echo last words >&$com1; kill -KILL $$");
  const auto end = run();
  EXPECT_EQ(end.status, 83);
  EXPECT_EQ(end.line, "failed (the worker was killed by signal KILL)");
  EXPECT_EQ(screen(), "last words\n");
}

TEST_F(ConsoleSessionTest, AWorkerThatEndsWithoutAWordIsAFailure) {
  start_worker("exit 9");
  EXPECT_EQ(run().line, "failed (the worker ended with status 9)");
}

TEST_F(ConsoleSessionTest, GarbageInReportsIsIgnored) {
  start_worker(std::string("say 'not JSON'; say '[1]'; say '{\"event\":7}'; say '{}'; ") + kPoweredOff);
  EXPECT_EQ(run().status, 0);
}

TEST_F(ConsoleSessionTest, ASignalEndsTheMachine) {
  start_worker("sleep 0.2; kill -TERM $PPID; while :; do sleep 0.05; done");
  const auto end = run();
  EXPECT_EQ(end.status, 84);
  EXPECT_EQ(end.line, "stopped (signal TERM)");
}

TEST(RawTerminal, IsRestored) {
  int master = -1;
  int slave = -1;
  ASSERT_EQ(openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  FileDescriptor master_file(master);
  FileDescriptor slave_file(slave);
  termios before{};
  termios during{};
  termios after{};
  tcgetattr(slave, &before);
  {
    RawTerminal raw(slave);
    EXPECT_TRUE(raw.active());
    tcgetattr(slave, &during);
    EXPECT_FALSE(during.c_lflag & (ECHO | ICANON | ISIG));
  }
  tcgetattr(slave, &after);
  EXPECT_EQ(after.c_lflag, before.c_lflag);
  EXPECT_EQ(after.c_iflag, before.c_iflag);
}

TEST(RawTerminal, LeavesAPipeAlone) {
  Pipe pipe;
  RawTerminal raw(pipe.reader.get());
  EXPECT_FALSE(raw.active());
}

}  // namespace
}  // namespace bulkhead::cli
