// SPDX-License-Identifier: Apache-2.0
//
// bulkhead-vmwp: the worker process of one virtual machine. Its command line is worker/command_line.hpp, its exit
// statuses are worker/ending.hpp, and what it reports while it runs is worker/report.hpp.
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <optional>
#include <ranges>
#include <string>
#include <string_view>
#include <utility>

#include "engine/select.hpp"
#include "worker/command_line.hpp"
#include "worker/control/commands.hpp"
#include "worker/control/server.hpp"
#include "worker/machine.hpp"
#include "worker/report.hpp"

namespace bulkhead::worker {
namespace {

/// On the standard error, which may be a slow terminal that somebody else made non-blocking. What cannot be written is lost.
template <typename... Arguments>
void say(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  const std::string text = fmt::format(format, std::forward<Arguments>(arguments)...);
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t written = write(STDERR_FILENO, rest.data(), rest.size());
    if (written > 0) {
      rest.remove_prefix(static_cast<std::size_t>(written));
      continue;
    }
    pollfd terminal{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    const bool later = written < 0 && (errno == EAGAIN || errno == EINTR);
    constexpr int kPatience = 1000;  // milliseconds
    if (!later || poll(&terminal, 1, kPatience) <= 0) return;
  }
}

engine::FileDescriptor take(const std::optional<int>& number) {
  return number ? engine::FileDescriptor(*number) : engine::FileDescriptor();
}

std::vector<DiskAttachment> take(const std::vector<DiskOption>& options) {
  return std::vector<DiskAttachment>(options.begin(), options.end());
}

/// Lets the machine go on with each SIGUSR1: it may be paused because the host's disk is full.
void resume_at_signal(boost::asio::signal_set& signals, Machine& machine) {
  signals.async_wait([&](const boost::system::error_code& error, int) {
    if (error) return;
    static_cast<void>(machine.resume());  // if it is not paused, there is nothing to do
    resume_at_signal(signals, machine);
  });
}

/// Reports what becomes of the machine, also to the clients of its control socket, and ends the event loop with it.
class Observer final : public MachineObserver {
 public:
  Observer(boost::asio::io_context& event_loop, Reporter& reporter, std::string name)
      : event_loop_(event_loop), reporter_(reporter), name_(std::move(name)) {}

  /// The server of the control socket, as long as there is one.
  void set_server(control::Server* server) { server_ = server; }

  void restarted(const std::string& why) override {
    reporter_.restarted(why);
    broadcast({{"event", "restarted"}, {"why", why}});
  }
  void paused() override { broadcast({{"event", "paused"}}); }
  void resumed() override {
    reporter_.resumed();
    broadcast({{"event", "resumed"}});
  }
  void heartbeat_changed(vsp::integration::HeartbeatState state) override {
    broadcast({{"event", "heartbeat"}, {"state", to_text(state)}});
  }
  void file_systems_let_go() override { broadcast({{"event", "thawed"}, {"why", "time limit"}}); }
  void memory_changed(std::uint64_t bytes) override { broadcast({{"event", "memory"}, {"assigned", bytes}}); }
  void host_is_full(const std::string& why) override {
    reporter_.paused(why);
    broadcast({{"event", "host full"}, {"why", why}});
    if (!reporter_.has_reader()) say("bulkhead-vmwp: {}: paused: {}\n", name_, why);
  }
  void ended(const Ending& ending) override {
    ending_ = ending;
    broadcast(
        {{"event", "ended"}, {"how", word(ending.kind)}, {"detail", ending.detail}, {"status", exit_status(ending)}});
    event_loop_.stop();
  }

  const Ending& ending() const { return ending_; }

 private:
  void broadcast(const control::Json& event) {
    if (server_ != nullptr) server_->broadcast(event);
  }

  boost::asio::io_context& event_loop_;
  Reporter& reporter_;
  control::Server* server_ = nullptr;
  std::string name_;
  Ending ending_{EndingKind::Stopped, ""};
};

Ending run_machine(const CommandLine& line, Reporter& reporter) {
  auto engine = engine::select_engine(line.engine);
  if (!engine) return {EndingKind::NotStarted, engine.error().message()};

  boost::asio::io_context event_loop(1);
  Observer observer(event_loop, reporter, line.name);
  auto machine = Machine::create(event_loop, **engine, observer,
                                 {.name = line.name,
                                  .memory_size = line.memory_size,
                                  .vp_count = line.vp_count,
                                  .kernel = engine::FileDescriptor(line.kernel_fd),
                                  .initrd = take(line.initrd_fd),
                                  .bios = take(line.bios_fd),
                                  .boot_rom = take(line.boot_rom_fd),
                                  .kernel_arguments = line.kernel_arguments,
                                  .com1 = take(line.com1_fd),
                                  .com2 = take(line.com2_fd),
                                  .debug_exit = line.debug_exit,
                                  .vmbus = line.vmbus,
                                  .integration = line.integration,
                                  .dynamic_memory = line.dynamic_memory,
                                  .disks = take(line.disks),
                                  .restart_on_reset = line.restart_on_reset});
  if (!machine) return {EndingKind::NotStarted, machine.error().message()};

  boost::asio::signal_set signals(event_loop, SIGTERM, SIGINT, SIGHUP);
  signals.async_wait([&](const boost::system::error_code& error, int number) {
    if (!error) (*machine)->end(fmt::format("signal {}", sigabbrev_np(number)));
  });
  control::Commands commands(event_loop, **machine);
  std::optional<control::Server> server;
  if (line.control_fd) {
    server.emplace(event_loop, take(line.control_fd), commands);
    observer.set_server(&*server);
  }
  boost::asio::signal_set resuming(event_loop, SIGUSR1);
  resume_at_signal(resuming, **machine);
  if (auto started = (*machine)->start(); !started) return {EndingKind::NotStarted, started.error().message()};
  reporter.started((*engine)->capabilities().name);
  event_loop.run();
  return observer.ending();
}

/// A stack of glibc's default size is room for large pages of the host, and the kernel fills the first one at the first touch. No
/// thread of ours needs that much.
void set_stack_size() {
  constexpr std::size_t kStackSize = 1 << 20;
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return;
  if (pthread_attr_setstacksize(&attributes, kStackSize) == 0) pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);
}

/// The event loop does not take the host's processor from the thread of a guest's, where both want the same one: the guest goes on until
/// it waits or its time is over, and what it has asked for by then is answered together. Where another is free, the loop runs at once.
/// Who has chosen a policy for the worker keeps it.
void let_processors_go_on() {
  const sched_param priority{};
  if (sched_getscheduler(0) == SCHED_OTHER) sched_setscheduler(0, SCHED_BATCH, &priority);
}

int run(std::span<const std::string> arguments) {
  auto line = parse(arguments);
  if (!line) {
    say("bulkhead-vmwp: {}\n", line.error().message());
    return kUsageStatus;
  }
  std::signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  set_stack_size();
  let_processors_go_on();

  Reporter reporter(line->report_fd.value_or(-1));
  const Ending ending = run_machine(*line, reporter);
  reporter.ended(ending);
  for (const auto words : std::views::split(ending.text, '\n')) {
    if (words.empty()) continue;
    say("bulkhead-vmwp: {}: guest: {}\n", line->name, std::string_view(words.begin(), words.end()));
  }
  // Who reads the reports says it to the user; otherwise it is said here.
  if (!line->report_fd) say("bulkhead-vmwp: {}: {}\n", line->name, to_line(ending));
  return exit_status(ending);
}

}  // namespace
}  // namespace bulkhead::worker

int main(int count, char** values) {
  try {
    const std::vector<std::string> arguments(values + 1, values + count);
    return bulkhead::worker::run(arguments);
  } catch (const std::exception& error) {  // no memory, most likely
    std::fprintf(stderr, "bulkhead-vmwp: %s\n", error.what());
    return bulkhead::worker::exit_status({bulkhead::worker::EndingKind::Failed});
  }
}
