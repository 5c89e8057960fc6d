// SPDX-License-Identifier: Apache-2.0
#include "worker/serial_connection.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>

namespace bulkhead::worker {
namespace {

bool is_regular_file(int descriptor) {
  struct stat status{};
  return descriptor >= 0 && fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
}

using boost::asio::posix::stream_descriptor;

}  // namespace

SerialConnection::SerialConnection(boost::asio::io_context& event_loop, std::mutex& machine_lock,
                                   engine::FileDescriptor descriptor)
    : event_loop_(event_loop),
      machine_lock_(machine_lock),
      descriptor_(event_loop),
      is_regular_file_(is_regular_file(descriptor.get())),
      hung_up_(!descriptor.is_open()),
      alive_(std::make_shared<bool>(true)) {
  if (!descriptor.is_open()) return;
  fcntl(descriptor.get(), F_SETFL, fcntl(descriptor.get(), F_GETFL) | O_NONBLOCK);
  boost::system::error_code error;
  static_cast<void>(descriptor_.assign(descriptor.get(), error));
  if (error) {
    hung_up_ = true;
  } else {
    descriptor.release();
  }
}

SerialConnection::~SerialConnection() = default;

template <typename Function>
void SerialConnection::on_event_loop(Function function) {
  boost::asio::post(event_loop_, [this, function, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) (this->*function)();
  });
}

void SerialConnection::connect(vdev::Uart16550& uart) {
  std::lock_guard lock(machine_lock_);
  uart_ = &uart;
  if (!hung_up_ && !is_regular_file_) on_event_loop(&SerialConnection::wait_for_input);
}

std::size_t SerialConnection::transmit(std::span<const std::uint8_t> bytes) {
  if (hung_up_) return bytes.size();
  const std::size_t taken = std::min(bytes.size(), kQueueSize - output_.size());
  output_.insert(output_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
  if (taken > 0 && !writing_) {
    writing_ = true;
    on_event_loop(&SerialConnection::write_output);
  }
  return taken;
}

void SerialConnection::receive_ready() {
  // Called from within Uart16550::receive too, so the offer is made later.
  if (offering_ || input_begin_ == input_end_) return;
  offering_ = true;
  on_event_loop(&SerialConnection::offer_input);
}

void SerialConnection::wait_for_input() {
  descriptor_.async_wait(stream_descriptor::wait_read,
                         [this, alive = std::weak_ptr<bool>(alive_)](const boost::system::error_code& error) {
                           if (!error && !alive.expired()) read_input();
                         });
}

void SerialConnection::read_input() {
  const auto count = ::read(descriptor_.native_handle(), input_.data(), input_.size());
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return wait_for_input();
  if (count <= 0) return;  // the peer sends no more; it may still read
  {
    std::lock_guard lock(machine_lock_);
    input_begin_ = 0;
    input_end_ = static_cast<std::size_t>(count);
  }
  offer_input();
}

void SerialConnection::offer_input() {
  {
    std::lock_guard lock(machine_lock_);
    offering_ = false;
    if (input_begin_ == input_end_) return;
    input_begin_ += uart_->receive(std::span(input_).subspan(input_begin_, input_end_ - input_begin_));
    if (input_begin_ < input_end_) return;  // receive_ready offers the rest
  }
  wait_for_input();
}

void SerialConnection::write_output() {
  std::lock_guard lock(machine_lock_);
  if (!write_some()) return wait_for_output();
  writing_ = false;
  uart_->transmit_ready();
}

void SerialConnection::wait_for_output() {
  descriptor_.async_wait(stream_descriptor::wait_write,
                         [this, alive = std::weak_ptr<bool>(alive_)](const boost::system::error_code& error) {
                           if (!error && !alive.expired()) write_output();
                         });
}

bool SerialConnection::write_some() {
  while (!hung_up_ && written_ < output_.size()) {
    const auto count = ::write(descriptor_.native_handle(), output_.data() + written_, output_.size() - written_);
    if (count > 0) {
      written_ += static_cast<std::size_t>(count);
    } else if (count < 0 && errno == EAGAIN) {
      return false;
    } else if (count == 0 || errno != EINTR) {
      hung_up_ = true;
    }
  }
  output_.clear();
  written_ = 0;
  return true;
}

void SerialConnection::flush(std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  std::lock_guard lock(machine_lock_);
  while (!write_some()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd waiting{descriptor_.native_handle(), POLLOUT, 0};
    if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) <= 0) return;
  }
}

}  // namespace bulkhead::worker
