// SPDX-License-Identifier: Apache-2.0
//
// Lends a disk to any program that speaks NBD: nbd-client and the kernel's mount, QEMU's programs, libnbd.
//
// Each connection is a task that reads requests; each request is a task that works on the disk and then answers. What a
// client may have under way is bounded, and so are the clients, so they cannot fill memory; what it sends that makes no sense ends its
// connection.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "disk/disk.hpp"
#include "disk/file/ring.hpp"
#include "disk/nbd/protocol.hpp"
#include "disk/synchronization.hpp"

namespace bulkhead::disk::nbd {

/// A listening socket; closes itself. The file of a unix socket is removed with it.
class Listener {
 public:
  static Result<Listener> on_unix_socket(const std::string& path);
  /// Port 0: one that is free; see port().
  static Result<Listener> on_tcp(const std::string& address, std::uint16_t port);
  Listener(Listener&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::exchange(other.path_, {})) {}
  Listener& operator=(Listener&&) = delete;
  ~Listener();

  int descriptor() const { return descriptor_; }
  std::uint16_t port() const;

 private:
  Listener(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
  int descriptor_;
  std::string path_;
};

class Server {
 public:
  enum class Until { stopped, last_client_left };

  Server(Ring& ring, Disk& disk, Listener listener) : ring_(ring), disk_(disk), listener_(std::move(listener)) {}

  /// Serves until stop(), or until a client has come and none is left. The disk stays open.
  Task<Result<>> serve(Until until);
  /// Ends all connections. May be called from a task on the same ring.
  void stop();

 private:
  class Connection;
  Task<Result<>> serve_connection(int descriptor, Until until);

  Ring& ring_;
  Disk& disk_;
  Listener listener_;
  std::set<int> connections_;
  bool stopping_ = false;
};

}  // namespace bulkhead::disk::nbd
