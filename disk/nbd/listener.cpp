// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "disk/nbd/server.hpp"

namespace bulkhead::disk::nbd {
namespace {

constexpr int kBacklog = 16;

/// The sockets interface takes every kind of address as a sockaddr.
template <typename Address>
sockaddr* as_sockaddr(Address& address) {
  return reinterpret_cast<sockaddr*>(&address);
}

template <typename Address>
Result<int> listen_on(int family, Address& address, const std::string& name) {
  const int descriptor = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) {
    return std::unexpected(Error::from_errno("cannot make a socket", errno));
  }
  const int yes = 1;
  ::setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (::bind(descriptor, as_sockaddr(address), sizeof address) != 0 || ::listen(descriptor, kBacklog) != 0) {
    const int number = errno;
    ::close(descriptor);
    return std::unexpected(Error::from_errno(fmt::format("cannot listen on '{}'", name), number));
  }
  return descriptor;
}

/// A server that was killed leaves its socket behind: if nobody listens there any more, it goes.
void remove_stale(const std::string& path, sockaddr_un& address) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) {
    return;
  }
  const int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool refused =
      descriptor >= 0 && ::connect(descriptor, as_sockaddr(address), sizeof address) != 0 && errno == ECONNREFUSED;
  if (descriptor >= 0) {
    ::close(descriptor);
  }
  if (refused) {
    ::unlink(path.c_str());
  }
}

}  // namespace

Result<Listener> Listener::on_unix_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(
        fmt::format("cannot listen on '{}': a socket's path has 1 to {} bytes", path, sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  remove_stale(path, address);
  auto descriptor = listen_on(AF_UNIX, address, path);
  if (!descriptor) {
    return std::unexpected(descriptor.error());
  }
  return Listener(*descriptor, path);
}

Result<Listener> Listener::on_tcp(const std::string& host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
    return fail(fmt::format("'{}' is not an IPv4 address", host));
  }
  auto descriptor = listen_on(AF_INET, address, fmt::format("{}:{}", host, port));
  if (!descriptor) {
    return std::unexpected(descriptor.error());
  }
  return Listener(*descriptor, {});
}

Listener::~Listener() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
  if (!path_.empty()) {
    ::unlink(path_.c_str());
  }
}

std::uint16_t Listener::port() const {
  sockaddr_in address{};
  socklen_t length = sizeof address;
  return getsockname(descriptor_, as_sockaddr(address), &length) == 0 ? ntohs(address.sin_port) : std::uint16_t{0};
}

}  // namespace bulkhead::disk::nbd
