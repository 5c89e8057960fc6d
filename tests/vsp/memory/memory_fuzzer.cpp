// SPDX-License-Identifier: Apache-2.0
//
// Dynamic memory and a hostile guest, made by structure: the input chooses messages, out of turn too, page ranges, silence,
// floods, what the host has, and the limits. Beside the sanitizers: the host's books and the memory agree on whose each page
// is, and the guest never has more than its maximum or than it was given.
#include <algorithm>

#include "tests/fuzz_input.hpp"
#include "tests/vsp/memory/memory_guest.hpp"

using namespace bulkhead;
using namespace bulkhead::vsp::memory;
using namespace abi::dynamic_memory;
using fuzz::check;
using fuzz::Input;

namespace {

constexpr Pages kMaximum = 128 * kMebibyte;  // a small machine: the books are as large as it

/// A page range that is often one of the guest's.
PageRun run_of(Input& input) {
  const std::uint8_t how = input.byte();
  if (how & 0x80) return {.first = input.number() & 0xff'ffff'ffff, .count = input.word() & 0xff'ffff};
  return {.first = std::uint64_t{input.half()} * 8, .count = std::uint64_t{input.half()} >> how % 16};
}

void send_anything(MemoryGuest& guest, Input& input) {
  vmbus::Bytes bytes = input.take(input.byte());
  if (bytes.size() >= sizeof(Header) && input.byte() & 1) {
    const Header head{.type = static_cast<MessageType>(input.byte() % 14),
                      .size = static_cast<std::uint16_t>(bytes.size()),
                      .transaction = 0};
    std::memcpy(bytes.data(), &head, sizeof head);
  }
  guest.send_bytes(bytes);
}

void change_limits(MemoryGuest& guest, Input& input) {
  MemoryLimits limits = guest.provider.limits();
  limits.minimum = std::uint64_t{input.half()} * 4;
  limits.maximum = std::uint64_t{input.half()} * 4;
  limits.buffer_percent = input.half();
  limits.weight = input.half();
  static_cast<void>(guest.provider.set_limits(limits));
}

void step(MemoryGuest& guest, bool& open, Input& input) {
  const std::uint8_t what = input.byte();
  if (!open) {
    open = true;
    return guest.connect(what & 1 ? Version::V2_0 : Version::V1_0, what & 2);
  }
  switch (what % 10) {
    case 0: return guest.report(what & 0x80 ? input.number() : std::uint64_t{input.half()} * 8);
    case 1: return guest.report_for(1 + what / 32, std::uint64_t{input.half()} * 8);
    case 2: {
      std::vector<PageRun> runs(input.byte() % 8);
      std::ranges::generate(runs, [&] { return run_of(input); });
      return guest.give(runs, what & 0x80);
    }
    case 3: return guest.hot_added(what & 0x80 ? input.word() : std::uint64_t{input.half()}, input.byte() % 3);
    case 4: return guest.unballooned();
    case 5: return send_anything(guest, input);
    case 6: return guest.clock.advance(std::chrono::milliseconds(input.half()));
    case 7:
      if (what & 0x40) guest.memory.touch(input.half());
      if (what & 0x80)
        guest.memory.set_host({.total = 16384 * kMebibyte, .available = std::uint64_t{input.half()} * 64});
      return change_limits(guest, input);
    case 8: {
      while (guest.receive()) {
      }
      return;
    }
    default: break;
  }
  if (what & 0x40) {
    open = false;
    return guest.close();
  }
  const auto bus = guest.fake.bus().save();
  const auto saved = guest.provider.save();
  const Pages had = guest.provider.account().assigned();
  guest.fake.bus().reset();
  guest.provider.reset();
  guest.memory.power_on();
  check(guest.fake.bus().restore(bus).has_value() && guest.provider.restore(saved).has_value());
  check(guest.provider.account().assigned() == had);
  guest.provider.start();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, std::min<std::size_t>(size, 2048));
  MemoryGuest guest(64 * kMebibyte, kMaximum);
  bool open = false;
  for (unsigned steps = 0; !input.is_empty() && steps < 256; ++steps) {
    step(guest, open, input);
    const auto& account = guest.provider.account();
    check(account.assigned() == guest.memory.size());
    check(account.assigned() <= kMaximum);
  }
  if (open) guest.close();
  return 0;
}
