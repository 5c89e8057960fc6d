// SPDX-License-Identifier: Apache-2.0
#include "cli/control_client.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "worker/control/endpoint.hpp"

namespace bulkhead::cli {
namespace {

constexpr std::size_t kLongestLine = 16 << 20;
constexpr std::size_t kMostFiles = 64;
constexpr int kRequest = 1;  // the id; there is one at a time

}  // namespace

Result<ControlClient> ControlClient::connect(const std::string& name) {
  auto socket = worker::control::connect_to_machine(name);
  if (!socket) return std::unexpected(socket.error());
  return ControlClient(std::move(*socket));
}

Result<> ControlClient::send(const Json& request, std::span<const engine::FileDescriptor> files) {
  if (files.size() > kMostFiles) return fail(fmt::format("{} files are more than a request can bring", files.size()));
  std::string line = request.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostFiles * sizeof(int))> control{};
  std::size_t sent = 0;
  while (sent < line.size()) {
    iovec part{.iov_base = line.data() + sent, .iov_len = line.size() - sent};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!files.empty() && sent == 0) {
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(files.size() * sizeof(int));
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(files.size() * sizeof(int));
      for (std::size_t index = 0; index < files.size(); ++index) {
        const int number = files[index].get();
        std::memcpy(CMSG_DATA(header) + index * sizeof number, &number, sizeof number);
      }
    }
    const ssize_t count = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::unexpected(Error::from_errno("cannot send the request to the machine", errno));
    sent += static_cast<std::size_t>(count);
  }
  return {};
}

std::optional<Json> ControlClient::receive() {
  for (;;) {
    if (const std::size_t end = input_.find('\n'); end != std::string::npos) {
      Json object = Json::parse(input_.substr(0, end), nullptr, false);
      input_.erase(0, end + 1);
      return object.is_object() ? std::optional(std::move(object)) : std::nullopt;
    }
    std::array<char, 16384> bytes;
    const ssize_t count = recv(socket_.get(), bytes.data(), bytes.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0 || input_.size() > kLongestLine) return std::nullopt;
    input_.append(bytes.data(), static_cast<std::size_t>(count));
  }
}

Result<Json> ControlClient::call(Json request, std::span<const engine::FileDescriptor> files) {
  request["id"] = kRequest;
  if (auto sent = send(request, files); !sent) return std::unexpected(sent.error());
  while (auto object = receive()) {
    if (object->contains("event")) continue;
    if (object->contains("error")) return fail((*object)["error"].get<std::string>());
    if (object->value("id", 0) == kRequest && object->contains("result")) return std::move((*object)["result"]);
  }
  return fail("the machine has gone without an answer");
}

}  // namespace bulkhead::cli
