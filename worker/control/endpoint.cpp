// SPDX-License-Identifier: Apache-2.0
#include "worker/control/endpoint.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace bulkhead::worker::control {
namespace {

constexpr std::size_t kLongestName = 64;
constexpr int kBacklog = 16;

Result<> make_folder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return std::unexpected(Error::from_errno(fmt::format("cannot make the folder '{}'", path), errno));
  }
  struct stat status{};
  if (lstat(path.c_str(), &status) != 0) {
    return std::unexpected(Error::from_errno(fmt::format("cannot look at '{}'", path), errno));
  }
  if (!S_ISDIR(status.st_mode) || status.st_uid != geteuid() || (status.st_mode & 0022) != 0) {
    return fail(fmt::format("'{}' is not a folder that only this user can write to", path));
  }
  return {};
}

Result<sockaddr_un> socket_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail(fmt::format("the path '{}' is too long for a socket", path));
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

const sockaddr* generic(const sockaddr_un& address) { return reinterpret_cast<const sockaddr*>(&address); }

Result<engine::FileDescriptor> make_socket() {
  engine::FileDescriptor made(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!made.is_open()) return std::unexpected(Error::from_errno("cannot make a socket", errno));
  return made;
}

std::string socket_path(std::string_view name) { return fmt::format("{}/{}.sock", runtime_folder(), name); }

}  // namespace

Result<> check_machine_name(std::string_view name) {
  const auto is_allowed = [](char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') ||
           letter == '.' || letter == '_' || letter == '-';
  };
  if (!name.empty() && name.size() <= kLongestName && std::ranges::all_of(name, is_allowed) && name.front() != '.' &&
      name.front() != '-') {
    return {};
  }
  return fail(
      fmt::format("'{}' is no name of a machine: 1 to {} letters, digits, '_', '.' and '-', the last two not first",
                  name, kLongestName));
}

std::string runtime_folder() {
  if (const char* folder = std::getenv("BULKHEAD_RUN_FOLDER"); folder != nullptr && *folder == '/') return folder;
  if (geteuid() == 0) return "/run/bulkhead";
  if (const char* folder = std::getenv("XDG_RUNTIME_DIR"); folder != nullptr && *folder == '/') {
    return fmt::format("{}/bulkhead", folder);
  }
  return fmt::format("/tmp/bulkhead-{}", geteuid());
}

Result<Endpoint> make_endpoint(std::string_view name) {
  if (auto checked = check_machine_name(name); !checked) return std::unexpected(checked.error());
  const std::string folder = runtime_folder();
  if (auto made = make_folder(folder); !made) return std::unexpected(made.error());
  Endpoint endpoint;
  const std::string lock_path = fmt::format("{}/{}.lock", folder, name);
  endpoint.lock = engine::FileDescriptor(open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!endpoint.lock.is_open()) {
    return std::unexpected(Error::from_errno(fmt::format("cannot open '{}'", lock_path), errno));
  }
  if (flock(endpoint.lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return fail(fmt::format("a machine named '{}' is running", name));
    return std::unexpected(Error::from_errno(fmt::format("cannot lock '{}'", lock_path), errno));
  }
  endpoint.path = socket_path(name);
  const auto address = socket_address(endpoint.path);
  if (!address) return std::unexpected(address.error());
  auto listener = make_socket();
  if (!listener) return std::unexpected(listener.error());
  endpoint.listener = std::move(*listener);
  unlink(endpoint.path.c_str());  // of a dead machine: the lock is ours
  // The mode is that of the descriptor when it is bound, so that there is no moment in which others could connect.
  if (fchmod(endpoint.listener.get(), 0600) != 0 ||
      bind(endpoint.listener.get(), generic(*address), sizeof *address) != 0 ||
      chmod(endpoint.path.c_str(), 0600) != 0 || listen(endpoint.listener.get(), kBacklog) != 0) {
    return std::unexpected(Error::from_errno(fmt::format("cannot listen on '{}'", endpoint.path), errno));
  }
  return endpoint;
}

Result<engine::FileDescriptor> connect_to_machine(std::string_view name) {
  if (auto checked = check_machine_name(name); !checked) return std::unexpected(checked.error());
  const std::string path = socket_path(name);
  const auto address = socket_address(path);
  if (!address) return std::unexpected(address.error());
  auto connected = make_socket();
  if (!connected) return connected;
  if (connect(connected->get(), generic(*address), sizeof *address) == 0) return connected;
  if (errno == ENOENT || errno == ECONNREFUSED) return fail(fmt::format("no machine named '{}' is running", name));
  return std::unexpected(Error::from_errno(fmt::format("cannot connect to '{}'", path), errno));
}

}  // namespace bulkhead::worker::control
