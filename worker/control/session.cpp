// SPDX-License-Identifier: Apache-2.0
#include "worker/control/session.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace bulkhead::worker::control {

namespace {

/// Takes the descriptors of a message.
void take_files(msghdr& message, Files& files) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t index = 0; index < count; ++index) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(part) + index * sizeof(int), sizeof number);
      files.emplace_back(number);
    }
  }
}

}  // namespace

Session::Session(boost::asio::local::stream_protocol::socket socket, RequestHandler& handler)
    : socket_(std::move(socket)), handler_(handler) {
  boost::system::error_code ignored;
  static_cast<void>(socket_.non_blocking(true, ignored));
}

Session::~Session() = default;

void Session::close() {
  boost::system::error_code ignored;
  static_cast<void>(socket_.close(ignored));
  for (const auto& [number, abandoned] : std::exchange(requests_, {})) {
    if (abandoned) abandoned();
  }
}

void Session::wait_for_input() {
  if (!socket_.is_open()) return;
  socket_.async_wait(boost::asio::socket_base::wait_read,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       if (error || !self->socket_.is_open()) return;
                       if (!self->read_some()) return self->close();
                       self->take_lines();
                       self->wait_for_input();
                     });
}

bool Session::read_some() {
  std::array<char, 16384> bytes;
  // One more than may come, so that too many are seen.
  alignas(cmsghdr) std::array<char, CMSG_SPACE((kMaximumFiles + 1) * sizeof(int))> control{};
  iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t count = recvmsg(socket_.native_handle(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  take_files(message, files_);
  if (files_.size() > kMaximumFiles) {
    cut_off(fmt::format("a request brings more than {} files", kMaximumFiles));
    return false;
  }
  input_.append(bytes.data(), static_cast<std::size_t>(count));
  return count > 0;
}

void Session::take_lines() {
  std::size_t begin = 0;
  for (std::size_t end = input_.find('\n'); end != std::string::npos && socket_.is_open();
       end = input_.find('\n', begin)) {
    take_line(input_.substr(begin, end - begin));
    begin = end + 1;
  }
  input_.erase(0, begin);
  if (input_.size() > kLongestLine) cut_off(fmt::format("a request is longer than {} bytes", kLongestLine));
}

void Session::take_line(const std::string& line) {
  if (line.size() > kLongestLine) return cut_off(fmt::format("a request is longer than {} bytes", kLongestLine));
  const Json request = Json::parse(line, nullptr, false);
  if (!request.is_object()) return cut_off("a request is a line with one JSON object");
  const Json id = request.contains("id") && !request["id"].is_structured() ? request["id"] : Json();
  const std::uint64_t number = next_request_++;
  if (!request.contains("do") || !request["do"].is_string()) {
    return answer(number, id, fail("a request says what to do in \"do\""));
  }
  if (requests_.size() >= kMaximumRequests) return answer(number, id, fail("too many requests are under way"));
  const auto what = request["do"].get<std::string>();
  if (what == "events") {
    wants_events_ = true;
    return answer(number, id, Json::object());
  }
  requests_[number] = nullptr;
  auto abandoned = handler_.handle(
      what, request, std::exchange(files_, {}),
      [self = shared_from_this(), number, id](Result<Json> result) { self->answer(number, id, std::move(result)); });
  if (const auto under_way = requests_.find(number); under_way != requests_.end()) {
    under_way->second = std::move(abandoned);
  }
}

void Session::answer(std::uint64_t number, const Json& id, Result<Json> result) {
  requests_.erase(number);
  Json object = {{"id", id}};
  if (result)
    object["result"] = std::move(*result);
  else
    object["error"] = result.error().message();
  send(object);
}

void Session::cut_off(const std::string& why) {
  send({{"id", nullptr}, {"error", why}});
  close();
}

void Session::send(const Json& object) {
  if (!socket_.is_open()) return;
  output_ += object.dump(-1, ' ', false, Json::error_handler_t::replace);
  output_ += '\n';
  if (!write_some() || output_.size() > kMaximumUnread) return close();
  if (!output_.empty()) wait_for_room();
}

bool Session::write_some() {
  while (!output_.empty()) {
    const ssize_t count = ::send(socket_.native_handle(), output_.data(), output_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    output_.erase(0, static_cast<std::size_t>(count));
  }
  return true;
}

void Session::wait_for_room() {
  if (std::exchange(waiting_for_room_, true)) return;
  socket_.async_wait(boost::asio::socket_base::wait_write,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       self->waiting_for_room_ = false;
                       if (error || !self->socket_.is_open()) return;
                       if (!self->write_some()) return self->close();
                       if (!self->output_.empty()) self->wait_for_room();
                     });
}

}  // namespace bulkhead::worker::control
