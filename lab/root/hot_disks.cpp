// SPDX-License-Identifier: Apache-2.0
//
// hot-disks ENGINE KERNEL INITRD ARGUMENTS DISK: a machine of two processors that gets a raw disk when its guest says that it
// waits for one, and loses it when the guest says that it is done. The guest's console is the standard output. It ends
// with the machine's exit status.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/streambuf.hpp>
#include <cstdio>
#include <exception>
#include <istream>
#include <span>

#include "engine/select.hpp"
#include "worker/machine.hpp"

namespace bulkhead::lab {
namespace {

class HotDisks final : public worker::MachineObserver {
 public:
  HotDisks(boost::asio::io_context& event_loop, int console, std::string disk)
      : event_loop_(event_loop),
        console_(event_loop, boost::asio::local::stream_protocol(), console),
        disk_(std::move(disk)) {
    read_line();
  }

  void set_machine(worker::Machine& machine) { machine_ = &machine; }
  void restarted(const std::string&) override {}
  void ended(const worker::Ending& ending) override {
    fmt::print("hot-disks: {}\n", to_line(ending));
    status_ = exit_status(ending);
    event_loop_.stop();
  }
  int status() const { return status_; }

 private:
  void read_line() {
    boost::asio::async_read_until(console_, buffer_, '\n', [this](const boost::system::error_code& error, std::size_t) {
      if (error) return;
      std::string line;
      std::istream stream(&buffer_);
      std::getline(stream, line);
      std::erase(line, '\r');
      fmt::print("{}\n", line);
      std::fflush(stdout);
      if (line == "child: waits for a disk") attach();
      if (line == "child: is done with the disk") detach();
      read_line();
    });
  }
  void attach() {
    worker::DiskOption option;
    option.files = {{open(disk_.c_str(), O_RDWR | O_CLOEXEC), disk_}};
    auto attached = machine_->attach_disk(worker::DiskAttachment(option));
    fmt::print("hot-disks: {}\n", attached ? fmt::format("attached as {}", *attached) : attached.error().message());
    number_ = attached.value_or(0);
  }
  void detach() {
    auto detached = machine_->detach_disk(number_, [](const Result<>& closed) {
      fmt::print("hot-disks: {}\n", closed ? "the image is closed" : closed.error().message());
    });
    if (!detached) fmt::print("hot-disks: {}\n", detached.error().message());
  }

  boost::asio::io_context& event_loop_;
  boost::asio::local::stream_protocol::socket console_;
  std::string disk_;
  boost::asio::streambuf buffer_;
  worker::Machine* machine_ = nullptr;
  std::uint8_t number_ = 0;
  int status_ = 1;
};

engine::FileDescriptor open_file(const char* path) { return engine::FileDescriptor(open(path, O_RDONLY | O_CLOEXEC)); }

int run(std::span<char*> arguments) {
  if (arguments.size() != 6) {
    fmt::print(stderr, "usage: hot-disks ENGINE KERNEL INITRD ARGUMENTS DISK\n");
    return 2;
  }
  std::array<int, 2> ends{};
  auto engine = engine::select_engine(arguments[1]);
  if (!engine || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    fmt::print(stderr, "hot-disks: {}\n", engine ? "no sockets" : engine.error().message());
    return 1;
  }
  boost::asio::io_context event_loop(1);
  HotDisks disks(event_loop, ends[1], arguments[5]);
  auto machine = worker::Machine::create(event_loop, **engine, disks,
                                         {.memory_size = std::uint64_t{512} << 20,
                                          .vp_count = 2,
                                          .kernel = open_file(arguments[2]),
                                          .initrd = open_file(arguments[3]),
                                          .kernel_arguments = arguments[4],
                                          .com1 = engine::FileDescriptor(ends[0]),
                                          .com2 = {},
                                          .vmbus = true});
  if (!machine) {
    fmt::print(stderr, "hot-disks: {}\n", machine.error().message());
    return 1;
  }
  disks.set_machine(**machine);
  if (auto started = (*machine)->start(); !started) {
    fmt::print(stderr, "hot-disks: {}\n", started.error().message());
    return 1;
  }
  event_loop.run();
  return disks.status();
}

}  // namespace
}  // namespace bulkhead::lab

int main(int count, char** values) {
  try {
    return bulkhead::lab::run({values, static_cast<std::size_t>(count)});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hot-disks: %s\n", error.what());
    return 1;
  }
}
