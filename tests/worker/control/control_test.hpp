// SPDX-License-Identifier: Apache-2.0
//
// A control socket for tests: an endpoint in a folder of the test's own, a server on an event loop that the test turns, and
// clients.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "worker/control/endpoint.hpp"
#include "worker/control/server.hpp"

namespace bulkhead::worker::control {

/// BULKHEAD_RUN_FOLDER is a folder of the test's own while this lives.
class RunFolder {
 public:
  RunFolder();
  ~RunFolder();
  std::string path(const std::string& name = "") const { return (folder_ / name).string(); }

 private:
  std::filesystem::path folder_;
};

/// A client of the socket, which the event loop's turns serve.
class TestClient {
 public:
  TestClient(boost::asio::io_context& event_loop, engine::FileDescriptor socket);

  void send(const std::string& bytes, const std::vector<int>& files = {});
  /// The next line of the server's, if one comes.
  std::optional<std::string> line();
  /// The next line as an object; null if none comes.
  Json object();
  /// A request and its answer.
  Json call(const std::string& request, const std::vector<int>& files = {}) {
    send(request + "\n", files);
    return object();
  }
  /// Of a request that fails.
  std::string error_of(const std::string& request, const std::vector<int>& files = {}) {
    return call(request, files).value("error", "(none)");
  }
  /// Whether the server has ended the connection, and nothing more comes.
  bool is_cut_off();
  void turn();
  void hang_up() { socket_ = engine::FileDescriptor(); }
  int descriptor() const { return socket_.get(); }

 private:
  boost::asio::io_context& event_loop_;
  engine::FileDescriptor socket_;
  std::string input_;
  bool ended_ = false;
};

/// A file with this content, which has no name.
engine::FileDescriptor nameless_file(const std::string& content);

}  // namespace bulkhead::worker::control
