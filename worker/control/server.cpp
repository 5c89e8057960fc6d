// SPDX-License-Identifier: Apache-2.0
#include "worker/control/server.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include "worker/control/session.hpp"

namespace bulkhead::worker::control {

using boost::asio::local::stream_protocol;

namespace {

constexpr std::chrono::milliseconds kRetry{100};

/// Whether the peer is the machine's own user or the superuser.
bool may_connect(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == 0 || peer.uid == geteuid();
}

}  // namespace

Server::Server(boost::asio::io_context& event_loop, engine::FileDescriptor listener, RequestHandler& handler)
    : acceptor_(event_loop, stream_protocol(), listener.release()), retry_(event_loop), handler_(handler) {
  accept();
}

Server::~Server() {
  for (const auto& weak : sessions_) {
    if (const auto session = weak.lock()) session->close();
  }
}

void Server::accept() {
  acceptor_.async_accept([this](const boost::system::error_code& error, stream_protocol::socket socket) {
    if (error == boost::asio::error::operation_aborted) return;  // the server is no more
    if (error) return accept_later();
    admit(std::move(socket));
    accept();
  });
}

void Server::accept_later() {
  // Out of descriptors, most likely; the next try would fail as well.
  retry_.expires_after(kRetry);
  retry_.async_wait([this](const boost::system::error_code& error) {
    if (!error) accept();
  });
}

void Server::admit(stream_protocol::socket socket) {
  std::erase_if(sessions_, [](const auto& weak) { return weak.expired(); });
  if (sessions_.size() >= kMaximumClients || !may_connect(socket.native_handle())) return;
  const auto session = std::make_shared<Session>(std::move(socket), handler_);
  sessions_.push_back(session);
  session->start();
}

void Server::broadcast(const Json& event) {
  for (const auto& weak : sessions_) {
    const auto session = weak.lock();
    if (session && session->wants_events()) session->send(event);
  }
}

}  // namespace bulkhead::worker::control
