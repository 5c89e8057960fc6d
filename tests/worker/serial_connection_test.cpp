// SPDX-License-Identifier: Apache-2.0
#include "worker/serial_connection.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <string>

namespace bulkhead::worker {
namespace {

using namespace std::chrono_literals;

constexpr std::uint16_t kData = vdev::Uart16550::kCom1;
constexpr std::uint16_t kFifoControl = kData + 2;
constexpr std::uint16_t kModemControl = kData + 4;
constexpr std::uint16_t kLineStatus = kData + 5;
constexpr std::uint32_t kDataReady = 0x01;
constexpr std::uint32_t kTransmitterEmpty = 0x20;

class NoLine final : public vdev::InterruptLine {
 public:
  void set_level(bool) override {}
};

/// A UART and its connection to one end of a socket pair; the test has the other.
class SerialConnectionTest : public testing::Test {
 protected:
  SerialConnectionTest() {
    std::signal(SIGPIPE, SIG_IGN);
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    peer_ = engine::FileDescriptor(ends[0]);
    connect(engine::FileDescriptor(ends[1]));
  }

  void connect(engine::FileDescriptor descriptor) {
    uart_.reset();
    connection_.emplace(event_loop_, lock_, std::move(descriptor));
    uart_.emplace("com1", kData, line_, *connection_);
    uart_->start();
    connection_->connect(*uart_);
  }

  void run_events() {
    event_loop_.restart();
    event_loop_.run_for(20ms);
  }

  /// Sends as a guest that polls does; false if the UART has no room.
  bool guest_sends(std::string_view text) {
    std::lock_guard lock(lock_);
    for (const char letter : text) {
      if (!(uart_->read_port(kLineStatus, 1) & kTransmitterEmpty)) return false;
      uart_->write_port(kData, 1, static_cast<unsigned char>(letter));
    }
    return true;
  }

  std::string guest_receives() {
    std::lock_guard lock(lock_);
    std::string text;
    while (uart_->read_port(kLineStatus, 1) & kDataReady) text += static_cast<char>(uart_->read_port(kData, 1));
    return text;
  }

  std::string peer_receives() {
    std::string text(1 << 20, '\0');
    const auto count = read(peer_.get(), text.data(), text.size());
    text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    return text;
  }

  boost::asio::io_context event_loop_;
  std::mutex lock_;
  NoLine line_;
  engine::FileDescriptor peer_;
  std::optional<SerialConnection> connection_;
  std::optional<vdev::Uart16550> uart_;
};

TEST_F(SerialConnectionTest, ThePeerGetsWhatTheGuestSends) {
  EXPECT_TRUE(guest_sends("hello"));
  run_events();
  EXPECT_EQ(peer_receives(), "hello");
}

TEST_F(SerialConnectionTest, TheGuestGetsAllThatThePeerSendsThoughTheFifoIsSmall) {
  uart_->write_port(kFifoControl, 1, 1);
  uart_->write_port(kModemControl, 1, 2);
  const std::string text = "a line that is longer than the FIFO of sixteen bytes and than one read of the event loop\n";
  ASSERT_EQ(write(peer_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  std::string received;
  for (int i = 0; i < 20 && received.size() < text.size(); ++i) {
    run_events();
    received += guest_receives();
  }
  EXPECT_EQ(received, text);
}

TEST_F(SerialConnectionTest, APeerThatDoesNotReadStopsTheLineAndLosesNothing) {
  std::string sent;
  const std::string chunk(100, 'x');
  for (int i = 0; i < 100'000; ++i) {
    const std::string marked = chunk + static_cast<char>('a' + i % 26);
    std::size_t taken = 0;
    while (taken < marked.size() && guest_sends(marked.substr(taken, 1))) ++taken;
    sent += marked.substr(0, taken);
    if (taken < marked.size()) {
      event_loop_.restart();
      event_loop_.run_for(5ms);
      if (!guest_sends("")) break;
      std::lock_guard lock(lock_);
      if (!(uart_->read_port(kLineStatus, 1) & kTransmitterEmpty)) break;  // stopped for good
    }
  }
  ASSERT_LT(sent.size(), 10u << 20) << "nothing held the guest back";

  std::string received;
  for (int i = 0; i < 100 && received.size() < sent.size(); ++i) {
    received += peer_receives();
    run_events();
  }
  EXPECT_EQ(received.size(), sent.size());
  EXPECT_EQ(received, sent);
}

TEST_F(SerialConnectionTest, WithoutAPeerTheGuestSendsIntoTheVoid) {
  peer_ = {};
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(guest_sends("nobody listens, and nobody waits"));
    if (i % 10 == 0) run_events();
  }
  connect({});
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(guest_sends("there is no peer at all"));
}

TEST_F(SerialConnectionTest, APeerThatOnlyReadsStillReads) {
  shutdown(peer_.get(), SHUT_WR);
  run_events();
  EXPECT_TRUE(guest_sends("still here"));
  run_events();
  EXPECT_EQ(peer_receives(), "still here");
}

TEST_F(SerialConnectionTest, AFileGetsWhatTheGuestSends) {
  const int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
  ASSERT_GE(file, 0);
  connect(engine::FileDescriptor(dup(file)));
  EXPECT_TRUE(guest_sends("log line\n"));
  run_events();
  char text[32] = {};
  EXPECT_EQ(pread(file, text, sizeof text, 0), 9);
  EXPECT_STREQ(text, "log line\n");
  close(file);
}

TEST_F(SerialConnectionTest, FlushWritesWhatIsLeftAndGivesUpOnAPeerThatDoesNotRead) {
  EXPECT_TRUE(guest_sends("last words"));
  connection_->flush(1000ms);
  EXPECT_EQ(peer_receives(), "last words");

  for (int i = 0; i < 100'000 && guest_sends("x"); ++i) {
    if (i % 1000 == 0) connection_->flush(0ms);
  }
  const auto begin = std::chrono::steady_clock::now();
  connection_->flush(50ms);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 1000ms);
}

}  // namespace
}  // namespace bulkhead::worker
