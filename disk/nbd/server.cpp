// SPDX-License-Identifier: Apache-2.0
#include "disk/nbd/server.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace bulkhead::disk::nbd {
namespace {

constexpr std::uint32_t kLargestRequest = 32 << 20;
constexpr std::uint64_t kMostBytesUnderWay = 32 << 20;  // of one connection
constexpr unsigned kMostRequestsUnderWay = 64;
constexpr std::size_t kMostConnections = 16;
constexpr std::uint32_t kLargestOption = 64 << 10;

template <typename Layout>
void append(std::vector<std::byte>& bytes, const Layout& layout) {
  const auto more = bytes_of(layout);
  bytes.insert(bytes.end(), more.begin(), more.end());
}

}  // namespace

class Server::Connection {
 public:
  Connection(Ring& ring, Disk& disk, int descriptor) : ring_(ring), disk_(disk), descriptor_(descriptor) {}

  Task<Result<>> run() {
    const bool chosen = co_await negotiate();
    if (chosen) {
      co_await transmit();
    }
    while (under_way_ > 0) {  // their memory and the connection must outlive them
      co_await Room{this};
    }
    co_return Result<>();
  }

 private:
  /// Waits until a request under way has ended.
  struct Room {
    Connection* connection;
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> waiter) const { connection->waiting_for_room_ = waiter; }
    void await_resume() const {}
  };

  Task<bool> receive(std::span<std::byte> bytes) {
    while (!bytes.empty()) {
      const int result = co_await ring_.operation(
          [&](io_uring_sqe* sqe) { io_uring_prep_recv(sqe, descriptor_, bytes.data(), bytes.size(), MSG_WAITALL); });
      if (result <= 0 && result != -EINTR && result != -EAGAIN) {
        co_return false;
      }
      bytes = bytes.subspan(static_cast<std::size_t>(std::max(result, 0)));
    }
    co_return true;
  }

  Task<bool> send(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const int result = co_await ring_.operation(
          [&](io_uring_sqe* sqe) { io_uring_prep_send(sqe, descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL); });
      if (result <= 0 && result != -EINTR && result != -EAGAIN) {
        co_return false;
      }
      bytes = bytes.subspan(static_cast<std::size_t>(std::max(result, 0)));
    }
    co_return true;
  }

  std::uint16_t flags() const {
    const auto always = kHasFlags | kSendFlush | kSendForceUnitAccess | kCanMultiConnection;
    const auto access = disk_.properties().writable ? kSendTrim | kSendWriteZeroes : int{kReadOnly};
    return static_cast<std::uint16_t>(always | access);
  }

  Task<bool> reply(std::uint32_t option, OptionReply type, std::span<const std::byte> data = {}) {
    OptionReplyHeader header;
    header.magic = kOptionReplyMagic;
    header.option = option;
    header.reply = static_cast<std::uint32_t>(type);
    header.length = static_cast<std::uint32_t>(data.size());
    std::vector<std::byte> bytes;
    append(bytes, header);
    bytes.insert(bytes.end(), data.begin(), data.end());
    co_return co_await send(bytes);
  }

  Task<bool> send_export_info(std::uint32_t option) {
    ExportInfo size;
    size.type = kInfoExport;
    size.size = disk_.properties().size;
    size.flags = flags();
    BlockSizeInfo blocks;
    blocks.type = kInfoBlockSize;
    blocks.smallest = disk_.properties().logical_sector;
    blocks.preferred = std::max(4096u, disk_.properties().logical_sector);
    blocks.largest = kLargestRequest;
    co_return co_await reply(option, OptionReply::info, bytes_of(size)) &&
        co_await reply(option, OptionReply::info, bytes_of(blocks)) && co_await reply(option, OptionReply::ack);
  }

  /// The old way to choose an export: no reply but the export itself.
  Task<bool> send_export(bool no_zeroes) {
    std::vector<std::byte> bytes;
    append(bytes, U64(disk_.properties().size));
    append(bytes, U16(flags()));
    bytes.resize(bytes.size() + (no_zeroes ? 0 : 124));
    co_return co_await send(bytes);
  }

  /// True once the client has chosen the export.
  Task<bool> negotiate() {
    Greeting greeting;
    greeting.magic = kGreeting;
    greeting.option_magic = kOptionMagic;
    greeting.flags = static_cast<std::uint16_t>(kFixedNewstyle | kNoZeroes);
    U32 client_flags;
    bool alive = co_await send(bytes_of(greeting));
    alive = alive && co_await receive(writable_bytes_of(client_flags));
    while (alive) {
      OptionHeader header;
      alive = co_await receive(writable_bytes_of(header));
      if (!alive || header.magic != kOptionMagic || header.length > kLargestOption) {
        co_return false;
      }
      std::vector<std::byte> data(header.length);
      if (!co_await receive(data)) {
        co_return false;
      }
      switch (static_cast<Option>(std::uint32_t{header.option})) {
        case Option::export_name: co_return co_await send_export((client_flags & kNoZeroes) != 0);
        case Option::abort: static_cast<void>(co_await reply(header.option, OptionReply::ack)); co_return false;
        case Option::list: {
          const U32 empty_name = 0;
          alive = co_await reply(header.option, OptionReply::server, bytes_of(empty_name)) &&
                  co_await reply(header.option, OptionReply::ack);
          break;
        }
        case Option::info: alive = co_await send_export_info(header.option); break;
        case Option::go:  // whatever name it asks for: there is one export
          co_return co_await send_export_info(header.option);
        default: alive = co_await reply(header.option, OptionReply::unsupported); break;
      }
    }
    co_return false;
  }

  Task<bool> transmit() {
    for (;;) {
      Request request;
      if (!co_await receive(writable_bytes_of(request)) || request.magic != kRequestMagic) {
        co_return false;
      }
      const auto command = static_cast<Command>(std::uint16_t{request.command});
      const bool has_data = command == Command::read || command == Command::write;
      if (command == Command::disconnect || (has_data && request.length > kLargestRequest)) {
        co_return false;
      }
      const std::uint64_t bytes = has_data ? std::uint32_t{request.length} : 0;
      while (under_way_ > 0 && (under_way_ >= kMostRequestsUnderWay || bytes_under_way_ + bytes > kMostBytesUnderWay)) {
        co_await Room{this};
      }
      std::vector<std::byte> data(bytes);
      if (command == Command::write && !co_await receive(data)) {
        co_return false;
      }
      ++under_way_;
      bytes_under_way_ += bytes;
      start(handle(request, std::move(data)), [this, bytes](bool alive) {
        --under_way_;
        bytes_under_way_ -= bytes;
        if (!alive) {
          ::shutdown(descriptor_, SHUT_RDWR);  // ends the reading side too
        }
        if (waiting_for_room_) {
          wake(std::exchange(waiting_for_room_, nullptr));
        }
      });
    }
  }

  Task<bool> handle(Request request, std::vector<std::byte> data) {
    const auto status = co_await perform(request, data);
    Reply reply;
    reply.magic = kReplyMagic;
    reply.status = static_cast<std::uint32_t>(status);
    reply.cookie = request.cookie;
    const bool with_data = request.command == static_cast<std::uint16_t>(Command::read) && status == Status::ok;
    auto sending = co_await sending_.lock();
    bool alive = co_await send(bytes_of(reply));
    if (alive && with_data) {
      alive = co_await send(data);
    }
    co_return alive;
  }

  Task<Status> perform(const Request& request, std::span<std::byte> data) {
    const auto command = static_cast<Command>(std::uint16_t{request.command});
    const std::uint64_t offset = request.offset;
    const std::uint64_t length = request.length;
    const bool changes = command == Command::write || command == Command::trim || command == Command::write_zeroes;
    if (changes && !disk_.properties().writable) {
      co_return Status::not_permitted;
    }
    if (command != Command::flush && !check_request(disk_, offset, length)) {
      co_return Status::invalid;
    }
    Result<> done;
    switch (command) {
      case Command::read: done = co_await read_bytes(disk_, offset, data); break;
      case Command::write: done = co_await write_bytes(disk_, offset, data); break;
      case Command::flush: done = co_await disk_.flush(); break;
      case Command::trim: done = co_await disk_.discard(offset, length); break;
      case Command::write_zeroes: done = co_await disk_.zero(offset, length); break;
      default: co_return Status::unsupported;
    }
    if (done && changes && (request.flags & kCommandForceUnitAccess) != 0) {
      done = co_await disk_.flush();
    }
    co_return done ? Status::ok : Status::io;
  }

  Ring& ring_;
  Disk& disk_;
  int descriptor_;
  Mutex sending_;
  unsigned under_way_ = 0;
  std::uint64_t bytes_under_way_ = 0;
  std::coroutine_handle<> waiting_for_room_;
};

Task<Result<>> Server::serve_connection(int descriptor, Until until) {
  connections_.insert(descriptor);
  Connection connection(ring_, disk_, descriptor);
  auto ended = co_await connection.run();
  connections_.erase(descriptor);
  ::close(descriptor);
  if (until == Until::last_client_left && connections_.empty()) {
    stop();
  }
  co_return ended;
}

Task<Result<>> Server::serve(Until until) {
  TaskGroup connections;
  Result<> result;
  while (!stopping_) {
    const int accepted = co_await ring_.operation(
        [&](io_uring_sqe* sqe) { io_uring_prep_accept(sqe, listener_.descriptor(), nullptr, nullptr, SOCK_CLOEXEC); });
    if (accepted >= 0 && connections_.size() >= kMostConnections) {
      ::close(accepted);
    } else if (accepted >= 0) {
      connections.add(serve_connection(accepted, until));
    } else if (!stopping_ && accepted != -EINTR && accepted != -EAGAIN && accepted != -ECONNABORTED) {
      result = std::unexpected(Error::from_errno("cannot accept connections", -accepted));
      break;
    }
  }
  auto ended = co_await connections.wait();
  co_return result ? ended : result;
}

void Server::stop() {
  stopping_ = true;
  ::shutdown(listener_.descriptor(), SHUT_RDWR);  // wakes the accept
  for (const int descriptor : connections_) {
    ::shutdown(descriptor, SHUT_RDWR);
  }
}

}  // namespace bulkhead::disk::nbd
