// SPDX-License-Identifier: Apache-2.0
#include "vdev/uart16550.hpp"

#include "tests/vdev/fakes.hpp"

namespace bulkhead::vdev {
namespace {

constexpr std::uint16_t kBase = Uart16550::kCom1;
enum Register : std::uint16_t {
  kData,
  kEnable,
  kIdentification,
  kLineControl,
  kModemControl,
  kLineStatus,
  kModemStatus,
  kScratch
};

class Uart16550Test : public ::testing::Test {
 protected:
  Uart16550Test() {
    backend_.uart = &uart_;
    uart_.start();
    out(kModemControl, 0x03);  // the port is open
  }
  std::uint32_t in(Register port) { return uart_.read_port(static_cast<std::uint16_t>(kBase + port), 1); }
  void out(Register port, std::uint32_t value) { uart_.write_port(static_cast<std::uint16_t>(kBase + port), 1, value); }
  void arrive(std::string_view text) {
    backend_.to_send += text;
    backend_.offer();
  }
  std::string read_all() {
    std::string text;
    while (in(kLineStatus) & 1) text.push_back(static_cast<char>(in(kData)));
    return text;
  }

  FakeLine line_;
  FakeSerialBackend backend_;
  Uart16550 uart_{"com1", kBase, line_, backend_};
};

TEST_F(Uart16550Test, SendsWhatTheGuestWritesAndIsEmptyAgain) {
  for (char c : std::string_view("hello")) {
    ASSERT_EQ(in(kLineStatus) & 0x60, 0x60u);
    out(kData, static_cast<std::uint8_t>(c));
  }
  EXPECT_EQ(backend_.sent, "hello");
}

// drivers/tty/serial/8250: autoconfig and autoconfig_16550a.
TEST_F(Uart16550Test, LooksLikeA16550AToLinux) {
  out(kEnable, 0);
  EXPECT_EQ(in(kEnable) & 0x0f, 0u);
  out(kEnable, 0x0f);
  EXPECT_EQ(in(kEnable) & 0x0f, 0x0fu);
  out(kEnable, 0);
  out(kModemControl, 0x10 | 0x0a);
  EXPECT_EQ(in(kModemStatus) & 0xf0, 0x90u);  // loopback: OUT2 is DCD, RTS is CTS
  out(kModemControl, 0);
  out(static_cast<Register>(2), 0x01);
  EXPECT_EQ(in(kIdentification) >> 6, 3u);
  out(static_cast<Register>(2), 0x21);  // a 16750's 64-byte FIFO
  EXPECT_EQ(in(kIdentification) & 0x20, 0u);
  out(kEnable, 0x40);  // an XScale's unit enable
  EXPECT_EQ(in(kEnable), 0u);
  out(kScratch, 0xa5);
  EXPECT_EQ(in(kScratch), 0xa5u);
}

TEST_F(Uart16550Test, DivisorLatchHidesDataAndEnable) {
  out(kEnable, 0x01);
  out(kLineControl, 0x83);
  out(kData, 0x01);
  out(kEnable, 0x02);
  EXPECT_EQ(in(kData), 0x01u);
  EXPECT_EQ(in(kEnable), 0x02u);
  out(kLineControl, 0x03);
  EXPECT_EQ(in(kEnable), 0x01u);
  EXPECT_EQ(backend_.sent, "");
}

// serial8250_do_startup tests that enabling the interrupt with an empty transmitter raises it, twice.
TEST_F(Uart16550Test, EnablingTheTransmitterInterruptRaisesIt) {
  out(kModemControl, 0x08);
  for (int i = 0; i < 2; ++i) {
    out(kEnable, 0x02);
    EXPECT_TRUE(line_.high());
    EXPECT_EQ(in(kIdentification), 0x02u);
    EXPECT_FALSE(line_.high());
    EXPECT_EQ(in(kIdentification), 0x01u);
    out(kEnable, 0);
  }
}

TEST_F(Uart16550Test, EachByteSentIsAnEdgeOfTheTransmitterInterrupt) {
  out(kModemControl, 0x08);
  out(kEnable, 0x02);
  const unsigned before = line_.rises();
  out(kData, 'x');
  EXPECT_EQ(line_.rises(), before + 1);
}

TEST_F(Uart16550Test, Out2OpensTheInterruptLine) {
  out(kEnable, 0x02);
  EXPECT_FALSE(line_.high());
  out(kModemControl, 0x08);
  EXPECT_TRUE(line_.high());
}

TEST_F(Uart16550Test, ReceiveInterruptsFollowPriorityAndTrigger) {
  out(kModemControl, 0x0a);
  out(static_cast<Register>(2), 0x81);  // FIFOs, trigger 8
  out(kEnable, 0x07);
  in(kIdentification);
  arrive("1234567");
  EXPECT_EQ(in(kIdentification), 0xccu);  // fewer than the trigger: character timeout
  arrive("8");
  EXPECT_EQ(in(kIdentification), 0xc4u);
  EXPECT_TRUE(line_.high());
  EXPECT_EQ(read_all(), "12345678");
  EXPECT_EQ(in(kIdentification), 0xc1u);
  EXPECT_FALSE(line_.high());
}

TEST_F(Uart16550Test, APasteOf64KibLosesNothing) {
  std::string paste;
  for (int i = 0; i < 65536; ++i) paste.push_back(static_cast<char>(i * 7 + i / 256));
  out(static_cast<Register>(2), 0xc7);
  arrive(paste);
  EXPECT_EQ(backend_.offered, Uart16550::kFifoSize);
  std::string received;
  while (in(kLineStatus) & 1) received.push_back(static_cast<char>(in(kData)));
  EXPECT_EQ(received, paste);
}

TEST_F(Uart16550Test, WhatArrivesBeforeThePortIsOpenWaits) {
  out(kModemControl, 0);
  arrive("early");
  EXPECT_EQ(in(kLineStatus) & 1, 0u);
  EXPECT_FALSE(uart_.receive_break());
  out(static_cast<Register>(2), 0x07);  // as a guest that sets the port up, and empties its FIFOs
  out(kModemControl, 0x03);
  EXPECT_EQ(read_all(), "early");
}

TEST_F(Uart16550Test, WithoutFifosOneByteAtATime) {
  arrive("ab");
  EXPECT_EQ(backend_.offered, 1u);
  EXPECT_EQ(read_all(), "ab");
}

TEST_F(Uart16550Test, ABackendWithoutRoomHoldsTheTransmitter) {
  out(static_cast<Register>(2), 0x01);
  backend_.room = 1;
  out(kData, '1');
  out(kData, '2');
  EXPECT_EQ(in(kLineStatus) & 0x60, 0u);
  for (int i = 0; i < 100; ++i) out(kData, 'x');  // a guest that does not wait; 15 of them fit
  backend_.room = SIZE_MAX;
  uart_.transmit_ready();
  EXPECT_EQ(in(kLineStatus) & 0x60, 0x60u);
  EXPECT_EQ(backend_.sent, "12" + std::string(15, 'x'));
}

TEST_F(Uart16550Test, LoopbackReturnsBytesAndOverruns) {
  out(static_cast<Register>(2), 0x01);
  out(kModemControl, 0x10);
  for (char c = 'a'; c < 'a' + 17; ++c) out(kData, static_cast<std::uint8_t>(c));
  EXPECT_EQ(in(kLineStatus) & 0x03, 0x03u);
  EXPECT_EQ(in(kLineStatus) & 0x02, 0u);  // reading cleared the overrun
  EXPECT_EQ(read_all(), "abcdefghijklmnop");
  EXPECT_EQ(backend_.sent, "");
  backend_.to_send = "z";
  backend_.offer();
  EXPECT_EQ(in(kLineStatus) & 1, 0u);  // the line is cut off in loopback
  out(kModemControl, 0x02);
  EXPECT_EQ(read_all(), "z");
}

TEST_F(Uart16550Test, ModemDeltasInterruptUntilRead) {
  out(kModemControl, 0x18);
  in(kModemStatus);
  out(kEnable, 0x08);
  EXPECT_EQ(in(kIdentification), 0x01u);
  out(kModemControl, 0x1a);  // RTS, which is CTS
  EXPECT_EQ(in(kIdentification), 0x00u);
  EXPECT_TRUE(line_.high());
  EXPECT_EQ(in(kModemStatus) & 0x0f, 0x01u);
  EXPECT_FALSE(line_.high());
}

TEST_F(Uart16550Test, ABreakIsAZeroByteWithItsFlag) {
  EXPECT_TRUE(uart_.receive_break());
  EXPECT_FALSE(uart_.receive_break());
  EXPECT_EQ(in(kLineStatus) & 0x11, 0x11u);
  EXPECT_EQ(in(kData), 0u);
  EXPECT_EQ(in(kLineStatus) & 0x11, 0u);
}

TEST_F(Uart16550Test, AWideAccessIsOneOfEachPort) {
  out(kScratch, 0x12);
  EXPECT_EQ(uart_.read_port(kBase + 7, 2), 0xff12u);
  uart_.write_port(kBase, 2, 0x0141);
  EXPECT_EQ(backend_.sent, "A");
  EXPECT_EQ(in(kEnable), 0x01u);
}

TEST_F(Uart16550Test, NothingArrivesWhileStopped) {
  uart_.stop();
  arrive("late");
  EXPECT_EQ(in(kLineStatus) & 1, 0u);
  uart_.start();
  EXPECT_EQ(read_all(), "late");
}

TEST_F(Uart16550Test, GoesOnInAnotherInstance) {
  out(static_cast<Register>(2), 0x81);
  out(kModemControl, 0x0b);
  out(kEnable, 0x05);
  arrive("abc");
  backend_.room = 0;
  out(kData, 'q');
  uart_.stop();

  FakeLine line;
  FakeSerialBackend backend;
  Uart16550 other("com1", kBase, line, backend);
  transplant(uart_, other);
  EXPECT_EQ(line.rises(), 0u);  // the interrupt controller has the level in its own state
  other.start();
  EXPECT_EQ(backend.sent, "q");
  EXPECT_EQ(other.read_port(kBase + 2, 1), 0xccu);
  for (char c : std::string_view("abc")) EXPECT_EQ(other.read_port(kBase, 1), static_cast<std::uint8_t>(c));
  EXPECT_FALSE(line.high());
  expect_foreign_state_refused(other);
}

TEST_F(Uart16550Test, RefusesMoreBytesThanItsFifoHolds) {
  auto saved = uart_.save();
  state::SavedUnit larger(1);
  for (const auto& [name, value] : saved.fields()) {
    if (const auto* number = std::get_if<std::uint64_t>(&value)) larger.number(name, *number);
  }
  larger.bytes("received", std::vector<std::uint8_t>(17)).bytes("to_transmit", {});
  EXPECT_FALSE(uart_.restore(larger).has_value());
}

}  // namespace
}  // namespace bulkhead::vdev
