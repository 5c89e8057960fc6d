// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/control/control_test.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace bulkhead::worker::control {

RunFolder::RunFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "bulkhead-control-XXXXXX").string();
  folder_ = ::mkdtemp(pattern.data());
  ::setenv("BULKHEAD_RUN_FOLDER", folder_.c_str(), 1);
}

RunFolder::~RunFolder() {
  ::unsetenv("BULKHEAD_RUN_FOLDER");
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

TestClient::TestClient(boost::asio::io_context& event_loop, engine::FileDescriptor socket)
    : event_loop_(event_loop), socket_(std::move(socket)) {
  turn();
}

void TestClient::turn() {
  event_loop_.restart();
  while (event_loop_.poll() > 0) event_loop_.restart();
}

void TestClient::send(const std::string& bytes, const std::vector<int>& files) {
  std::string left = bytes;
  std::vector<char> control(CMSG_SPACE(std::max<std::size_t>(files.size(), 1) * sizeof(int)));
  bool first = true;
  for (unsigned tries = 0; !left.empty() && tries < 10'000; ++tries) {
    iovec part{.iov_base = left.data(), .iov_len = left.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (first && !files.empty()) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(files.size() * sizeof(int));
      std::memcpy(CMSG_DATA(header), files.data(), files.size() * sizeof(int));
    }
    const ssize_t count = sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno != EAGAIN) return;  // cut off
    if (count > 0) {
      left.erase(0, static_cast<std::size_t>(count));
      first = false;
    }
    turn();
  }
}

std::optional<std::string> TestClient::line() {
  for (unsigned turns = 0; turns < 20'000; ++turns) {
    if (const auto end = input_.find('\n'); end != std::string::npos) {
      const std::string line = input_.substr(0, end);
      input_.erase(0, end + 1);
      return line;
    }
    std::array<char, 65536> bytes;
    const ssize_t count = recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count > 0) input_.append(bytes.data(), static_cast<std::size_t>(count));
    ended_ = count == 0 || (count < 0 && errno != EAGAIN);
    if (ended_ && input_.find('\n') == std::string::npos) return std::nullopt;
    if (count < 0 && turns > 2) return std::nullopt;  // all has been served, and nothing came
    turn();
  }
  return std::nullopt;
}

Json TestClient::object() {
  const auto text = line();
  return text ? Json::parse(*text, nullptr, false) : Json();
}

bool TestClient::is_cut_off() {
  while (line()) {
  }
  return ended_;
}

engine::FileDescriptor nameless_file(const std::string& content) {
  engine::FileDescriptor file(open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (write(file.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) std::abort();
  return file;
}

}  // namespace bulkhead::worker::control
