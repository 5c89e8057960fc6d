// SPDX-License-Identifier: Apache-2.0
#include "tests/lab/control.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

namespace bulkhead::lab {

using Clock = std::chrono::steady_clock;

std::optional<Control> Control::connect(const std::filesystem::path& socket, std::chrono::seconds limit) {
  const auto deadline = Clock::now() + limit;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket.c_str(), sizeof(address.sun_path) - 1);
  while (Clock::now() < deadline) {
    const int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return std::nullopt;
    Control control(descriptor);
    if (::connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
      // The greeting, then leave the negotiation of capabilities, of which there are none.
      if (!control.read_object(deadline) || !control.execute("qmp_capabilities")) return std::nullopt;
      return control;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return std::nullopt;
}

Control::~Control() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Control::Control(Control&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), pending_(std::move(other.pending_)) {}

bool Control::execute(const std::string& command) {
  const std::string line = nlohmann::json{{"execute", command}}.dump() + "\n";
  return ::send(descriptor_, line.data(), line.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(line.size());
}

std::optional<MachineEnd> Control::wait_for_end(std::chrono::seconds limit) {
  const auto deadline = Clock::now() + limit;
  while (const auto object = read_object(deadline)) {
    if (object->value("event", "") != "SHUTDOWN") continue;
    const std::string reason = object->at("data").value("reason", "");
    if (reason == "guest-shutdown") return MachineEnd::PowerOff;
    if (reason == "guest-reset") return MachineEnd::Reset;
    return MachineEnd::Other;
  }
  return std::nullopt;
}

std::optional<nlohmann::json> Control::read_object(Clock::time_point deadline) {
  for (;;) {
    if (const auto end = pending_.find('\n'); end != std::string::npos) {
      const std::string line = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      return nlohmann::json::parse(line);
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd readable = {descriptor_, POLLIN, 0};
    if (left <= 0 || ::poll(&readable, 1, static_cast<int>(left)) <= 0) return std::nullopt;
    char chunk[4096];
    const ssize_t length = ::read(descriptor_, chunk, sizeof(chunk));
    if (length <= 0) return std::nullopt;
    pending_.append(chunk, static_cast<std::size_t>(length));
  }
}

}  // namespace bulkhead::lab
