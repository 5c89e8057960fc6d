// SPDX-License-Identifier: Apache-2.0
//
// What a serial port of the machine is connected to: a file descriptor, be it a socket, a pipe, a terminal or a file.
//
//   UART ── transmit ──▶ queue (bounded) ── event loop ──▶ descriptor
//   UART ◀── receive ─── a few bytes ◀───── event loop ─── descriptor
//
// A peer that does not read fills the queue; then the bytes stay in the UART, and the guest waits or gives up as it
// would at a terminal that has stopped the line. Without a descriptor, or once the peer has gone, what the guest sends
// is lost.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <chrono>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/file_descriptor.hpp"
#include "vdev/uart16550.hpp"

namespace bulkhead::worker {

/// To be made and destroyed on the event loop's thread, or while that does not run. The UART calls it with the
/// machine's lock held; its own handlers on the event loop take the lock.
class SerialConnection final : public vdev::SerialBackend {
 public:
  static constexpr std::size_t kQueueSize = 16384;

  /// The descriptor may be none. It is made non-blocking.
  SerialConnection(boost::asio::io_context& event_loop, std::mutex& machine_lock, engine::FileDescriptor descriptor);
  ~SerialConnection() override;

  /// Begins to pass bytes in both directions. Not with the machine's lock held.
  void connect(vdev::Uart16550& uart);
  /// Writes what the guest has sent before, but gives up after `limit` if the peer does not read. Not with the
  /// machine's lock held, and with the machine stopped.
  void flush(std::chrono::milliseconds limit);

  std::size_t transmit(std::span<const std::uint8_t> bytes) override;
  void receive_ready() override;

 private:
  template <typename Function>
  void on_event_loop(Function function);
  void wait_for_input();
  void read_input();
  void offer_input();
  void write_output();
  void wait_for_output();
  /// Writes what it can without waiting. False: the peer has no room.
  bool write_some();

  boost::asio::io_context& event_loop_;
  std::mutex& machine_lock_;
  boost::asio::posix::stream_descriptor descriptor_;  // of the event loop's thread
  const bool is_regular_file_;
  vdev::Uart16550* uart_ = nullptr;

  std::vector<std::uint8_t> output_;  // what the guest has sent, of which
  std::size_t written_ = 0;           // so much is written
  bool writing_ = false;              // the event loop is at it
  bool hung_up_ = false;
  std::array<std::uint8_t, 64> input_;  // what the UART has not taken yet: [input_begin_, input_end_)
  std::size_t input_begin_ = 0;
  std::size_t input_end_ = 0;
  bool offering_ = false;        // an offer to the UART is queued on the event loop
  std::shared_ptr<bool> alive_;  // a handler may still be queued when the connection has gone
};

}  // namespace bulkhead::worker
