// SPDX-License-Identifier: Apache-2.0
//
// One client of the control socket.
#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <map>
#include <memory>
#include <string>

#include "worker/control/server.hpp"

namespace bulkhead::worker::control {

/// Lives as long as the connection or as its requests. All of it is used on the event loop's thread.
class Session : public std::enable_shared_from_this<Session> {
 public:
  static constexpr std::size_t kLongestLine = std::size_t{64} * 1024;
  static constexpr std::size_t kMaximumUnread = std::size_t{1024} * 1024;
  static constexpr std::size_t kMaximumRequests = 16;
  static constexpr std::size_t kMaximumFiles = 64;  // of a request: a disk's chain of images

  Session(boost::asio::local::stream_protocol::socket socket, RequestHandler& handler);
  ~Session();

  void start() { wait_for_input(); }
  bool wants_events() const { return wants_events_; }
  /// A line to the client. One who does not read is cut off.
  void send(const Json& object);
  /// Ends the connection; requests under way are abandoned.
  void close();

 private:
  void wait_for_input();
  void wait_for_room();
  /// False: the connection is over.
  bool read_some();
  void take_lines();
  void take_line(const std::string& line);
  void answer(std::uint64_t number, const Json& id, Result<Json> result);
  /// Says why, and ends the connection.
  void cut_off(const std::string& why);
  bool write_some();

  boost::asio::local::stream_protocol::socket socket_;
  RequestHandler& handler_;
  std::string input_;
  Files files_;  // that came, for the next request
  std::string output_;
  bool waiting_for_room_ = false;
  bool wants_events_ = false;
  std::uint64_t next_request_ = 0;
  std::map<std::uint64_t, Abandoned> requests_;  // under way
};

}  // namespace bulkhead::worker::control
