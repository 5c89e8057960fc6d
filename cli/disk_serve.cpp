// SPDX-License-Identifier: Apache-2.0
#include "cli/disk_serve.hpp"

#include <fmt/format.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

#include "disk/chain/chain.hpp"
#include "disk/nbd/server.hpp"

namespace bulkhead::cli {
namespace {

using disk::Task;

/// SIGINT and SIGTERM, as something that a ring can read.
class StopSignals {
 public:
  StopSignals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, &previous_);
    descriptor_ = signalfd(-1, &signals, SFD_CLOEXEC);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
  ~StopSignals() {
    ::close(descriptor_);
    sigprocmask(SIG_SETMASK, &previous_, nullptr);
  }
  int descriptor() const { return descriptor_; }

 private:
  sigset_t previous_{};
  int descriptor_ = -1;
};

Task<Result<>> stop_at_signal(disk::Ring& ring, int descriptor, disk::nbd::Server& server, bool& signalled) {
  signalfd_siginfo information{};
  co_await ring.operation(
      [&](io_uring_sqe* sqe) { io_uring_prep_read(sqe, descriptor, &information, sizeof information, 0); });
  signalled = true;
  server.stop();
  co_return Result<>();
}

Result<disk::nbd::Listener> listen(const ServeOptions& options) {
  return options.socket.empty() ? disk::nbd::Listener::on_tcp(options.address, options.port)
                                : disk::nbd::Listener::on_unix_socket(options.socket);
}

Task<Result<>> serve(disk::Ring& ring, const ServeOptions& options) {
  disk::HostStore store(ring, options.parent_directories);
  disk::OpenOptions open;
  open.access = options.read_only ? disk::ImageStore::Access::read : disk::ImageStore::Access::write;
  open.format = options.format;
  auto image = co_await disk::open_disk(store, options.path, open);
  if (!image) {
    co_return std::unexpected(image.error());
  }
  auto listener = listen(options);
  if (!listener) {
    co_return std::unexpected(listener.error());
  }
  fmt::print("serving '{}' on {}\n", options.path,
             options.socket.empty() ? fmt::format("nbd://{}:{}", options.address, listener->port())
                                    : fmt::format("nbd+unix:///?socket={}", options.socket));
  std::fflush(stdout);
  const StopSignals signals;
  disk::nbd::Server server(ring, **image, std::move(*listener));
  bool signalled = false;
  disk::TaskGroup watching;
  watching.add(stop_at_signal(ring, signals.descriptor(), server, signalled));
  auto served = co_await server.serve(options.once ? disk::nbd::Server::Until::last_client_left
                                                   : disk::nbd::Server::Until::stopped);
  if (!signalled) {
    ::raise(SIGTERM);  // for the watching task, which takes it and ends
  }
  static_cast<void>(co_await watching.wait());
  auto closed = co_await (*image)->close();
  co_return served ? closed : served;
}

}  // namespace

Result<> serve_disk(const ServeOptions& options) {
  auto ring = disk::Ring::create();
  if (!ring) {
    return std::unexpected(ring.error());
  }
  return disk::run(serve(**ring, options), [&ring] { (*ring)->wait(); });
}

}  // namespace bulkhead::cli
