// SPDX-License-Identifier: Apache-2.0
#include "cli/console_session.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>

namespace bulkhead::cli {
namespace {

// A pipe or socket that polls as writable takes this much without waiting.
constexpr std::size_t kChunk = 4096;
constexpr std::chrono::seconds kPatience{5};

const int kFailed = worker::exit_status({worker::EndingKind::Failed});

std::string text_in(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

int number_in(const nlohmann::json& object, const char* name, int otherwise) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number_integer() ? found->get<int>() : otherwise;
}

sigset_t ending_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaddset(&signals, number);
  return signals;
}

}  // namespace

ConsoleSession::ConsoleSession(WorkerProcess& worker, engine::FileDescriptor console, ConsoleDescriptors user)
    : worker_(worker), console_(std::move(console)), user_(user) {
  const sigset_t signals = ending_signals();
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  signals_ = engine::FileDescriptor(signalfd(-1, &signals, SFD_CLOEXEC));
  if (!console_.is_open()) user_.input = -1;
}

ConsoleSession::~ConsoleSession() {
  const sigset_t signals = ending_signals();
  sigprocmask(SIG_UNBLOCK, &signals, nullptr);
}

WorkerEnd ConsoleSession::run(InputKind input) {
  input_kind_ = input;
  while (!worker_gone_) {
    const int timeout = milliseconds_to_kill();
    if (timeout == 0) worker_.signal(SIGKILL);
    wait_for_events(timeout == 0 ? -1 : timeout);
  }
  drain_console();
  return conclude();
}

void ConsoleSession::wait_for_events(int timeout) {
  const auto wanted = [](int descriptor, bool condition, short events) {
    return pollfd{condition ? descriptor : -1, events, 0};
  };
  short console_events = 0;
  if (to_screen_.empty()) console_events |= POLLIN;
  if (!to_console_.empty()) console_events |= POLLOUT;
  std::array<pollfd, 5> events = {
      wanted(user_.input, to_console_.empty(), POLLIN),
      wanted(console_.get(), console_events != 0, console_events),
      wanted(user_.output, !to_screen_.empty(), POLLOUT),
      wanted(worker_.reports(), true, POLLIN),
      wanted(signals_.get(), true, POLLIN),
  };
  if (poll(events.data(), events.size(), timeout) <= 0) return;
  if (events[4].revents) read_signal();
  if (events[0].revents) read_input();
  if (events[1].revents & POLLOUT) write_console();
  if (events[1].revents & (POLLIN | POLLHUP | POLLERR)) read_console();
  if (events[2].revents) write_screen();
  if (events[3].revents) read_reports();
}

void ConsoleSession::read_input() {
  std::array<char, kChunk> keys;
  const auto count = read(user_.input, keys.data(), keys.size());
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (count <= 0) {
    user_.input = -1;
    shutdown(console_.get(), SHUT_WR);
    return;
  }
  const std::string_view typed(keys.data(), static_cast<std::size_t>(count));
  const auto leave = input_kind_ == InputKind::Keys ? typed.find(kLeaveKey) : std::string_view::npos;
  to_console_ += typed.substr(0, leave);
  if (leave != std::string_view::npos) {
    user_.input = -1;
    end_worker("left by Ctrl-]");
  }
}

void ConsoleSession::read_console() {
  std::array<char, kChunk> bytes;
  const auto count = recv(console_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (count > 0) {
    to_screen_.assign(bytes.data(), static_cast<std::size_t>(count));
  } else if (count == 0 || (errno != EINTR && errno != EAGAIN)) {
    console_ = {};
    user_.input = -1;
    to_console_.clear();
  }
}

void ConsoleSession::write_screen() {
  const auto count = write(user_.output, to_screen_.data(), std::min(to_screen_.size(), kChunk));
  if (count >= 0) {
    to_screen_.erase(0, static_cast<std::size_t>(count));
  } else if (errno != EINTR && errno != EAGAIN) {
    to_screen_.clear();
    end_worker(fmt::format("nobody reads its console: {}", std::strerror(errno)));
  }
}

void ConsoleSession::write_console() {
  const auto count = send(console_.get(), to_console_.data(), to_console_.size(), MSG_DONTWAIT);
  if (count >= 0) {
    to_console_.erase(0, static_cast<std::size_t>(count));
  } else if (errno != EINTR && errno != EAGAIN) {
    to_console_.clear();
    user_.input = -1;
  }
}

void ConsoleSession::read_signal() {
  signalfd_siginfo information{};
  if (read(signals_.get(), &information, sizeof information) != sizeof information) return;
  end_worker(fmt::format("signal {}", sigabbrev_np(static_cast<int>(information.ssi_signo))));
}

void ConsoleSession::end_worker(std::string why) {
  if (!left_because_.empty()) {
    worker_.signal(SIGKILL);
    return;
  }
  left_because_ = std::move(why);
  kill_at_ = std::chrono::steady_clock::now() + kPatience;
  worker_.signal(SIGTERM);
}

int ConsoleSession::milliseconds_to_kill() const {
  if (left_because_.empty()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(kill_at_ - std::chrono::steady_clock::now());
  return static_cast<int>(std::max<std::int64_t>(left.count(), 0));
}

void ConsoleSession::read_reports() {
  std::array<char, kChunk> text;
  const auto count = read(worker_.reports(), text.data(), text.size());
  if (count < 0 && errno == EINTR) return;
  if (count <= 0) {
    worker_gone_ = true;
    return;
  }
  report_text_.append(text.data(), static_cast<std::size_t>(count));
  for (auto end = report_text_.find('\n'); end != std::string::npos; end = report_text_.find('\n')) {
    take_report(report_text_.substr(0, end));
    report_text_.erase(0, end + 1);
  }
}

void ConsoleSession::take_report(const std::string& line) {
  const auto report = nlohmann::json::parse(line, nullptr, false);
  if (!report.is_object()) return;
  const std::string event = text_in(report, "event");
  if (event == "started") guest_started_ = true;
  if (event == "restarted") fmt::print(stderr, "bulkhead: restarted after {}\n", text_in(report, "why"));
  if (event == "paused") fmt::print(stderr, "bulkhead: paused: {}\r\n", text_in(report, "why"));
  if (event == "resumed") fmt::print(stderr, "bulkhead: resumed\r\n");
  if (event != "ended") return;

  const std::string detail = left_because_.empty() ? text_in(report, "detail") : left_because_;
  if (!guest_started_) {
    reported_ = WorkerEnd{number_in(report, "status", kFailed), detail, false};
    return;
  }
  std::string ending = text_in(report, "how");
  if (report.contains("value")) ending += fmt::format(" with value {}", number_in(report, "value", 0));
  if (!detail.empty()) ending += fmt::format(" ({})", detail);
  reported_ = WorkerEnd{number_in(report, "status", kFailed), ending, true};
}

void ConsoleSession::drain_console() {
  // The worker has gone, so what is in the socket is the rest.
  while (console_.is_open() || !to_screen_.empty()) {
    if (to_screen_.empty()) {
      read_console();
      if (to_screen_.empty() && console_.is_open()) return;
      continue;
    }
    pollfd screen{user_.output, POLLOUT, 0};
    if (poll(&screen, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count())) <= 0) return;
    write_screen();
  }
}

WorkerEnd ConsoleSession::conclude() {
  const int status = worker_.wait();
  if (reported_) return *reported_;
  const bool was_left = !left_because_.empty();
  const worker::Ending ending{
      .kind = was_left ? worker::EndingKind::Stopped : worker::EndingKind::Failed,
      .detail = was_left ? left_because_
                : WIFSIGNALED(status)
                    ? fmt::format("the worker was killed by signal {}", sigabbrev_np(WTERMSIG(status)))
                    : fmt::format("the worker ended with status {}", WEXITSTATUS(status))};
  return {worker::exit_status(ending), worker::to_line(ending), true};
}

}  // namespace bulkhead::cli
