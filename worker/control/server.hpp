// SPDX-License-Identifier: Apache-2.0
//
// The control socket: a client sends requests and hears events, a line of JSON each. docs/control-protocol.md is what
// clients rely on.
//
//   client ── {"id":1,"do":"status"}\n ──▶ Session ── request ──▶ RequestHandler (worker/control/commands.hpp)
//          ◀─ {"id":1,"result":{…}}\n ────         ◀── reply, now or later ──
//          ◀─ {"event":"heartbeat",…}\n ── broadcast, to those who asked for events
//
// Only the user whose machine it is and the superuser are let in. Clients are not trusted beyond that: a line is at most
// 64 KiB, a request may bring 64 file descriptors, a client has at most 16 requests under way and 1 MiB of answers that
// it has not read, and there are at most 16 clients. One that goes beyond is told why, where that is possible, and cut
// off; the machine does not notice.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "engine/file_descriptor.hpp"
#include "error/error.hpp"

namespace bulkhead::worker::control {

using Json = nlohmann::ordered_json;

/// What a request is answered with. Called once, on the event loop, also long after the client has gone.
using Reply = std::function<void(Result<Json>)>;

/// Tells that the client who made a request has gone, while the request is under way.
using Abandoned = std::function<void()>;

/// What a client has sent along with a request.
using Files = std::vector<engine::FileDescriptor>;

class RequestHandler {
 public:
  virtual ~RequestHandler() = default;
  /// A request: an object whose "do" is `what`. Returns what is to be done if the client goes before the reply; may be null.
  virtual Abandoned handle(const std::string& what, const Json& request, Files files, Reply reply) = 0;
};

class Session;

/// All of it is used on the event loop's thread.
class Server {
 public:
  static constexpr std::size_t kMaximumClients = 16;

  /// The listener is a listening unix socket. The handler and the event loop live longer.
  Server(boost::asio::io_context& event_loop, engine::FileDescriptor listener, RequestHandler& handler);
  ~Server();

  /// To all clients who asked for events; what can be sent at once is.
  void broadcast(const Json& event);

 private:
  void accept();
  void accept_later();
  void admit(boost::asio::local::stream_protocol::socket socket);

  boost::asio::local::stream_protocol::acceptor acceptor_;
  boost::asio::steady_timer retry_;
  RequestHandler& handler_;
  std::vector<std::weak_ptr<Session>> sessions_;
};

}  // namespace bulkhead::worker::control
