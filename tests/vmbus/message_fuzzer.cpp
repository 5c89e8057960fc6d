// SPDX-License-Identifier: Apache-2.0
// Control messages of a hostile guest, in between what the host does by itself. Each step is a byte that says what,
// then for a message its size and its bytes, of which the first is brought near to a number that there is.
#include <algorithm>

#include "tests/vmbus/fake_guest.hpp"

namespace {

using namespace bulkhead;
using namespace bulkhead::vmbus;

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data, size) {}
  bool empty() const { return data_.empty(); }
  std::uint8_t byte() {
    if (data_.empty()) return 0;
    const auto value = data_.front();
    data_ = data_.subspan(1);
    return value;
  }
  Bytes take(std::size_t count) {
    const auto part = data_.first(std::min(count, data_.size()));
    data_ = data_.subspan(part.size());
    return {part.begin(), part.end()};
  }

 private:
  std::span<const std::uint8_t> data_;
};

void check(bool holds) {
  if (!holds) std::abort();
}

void step(FakeGuest& guest, EchoProvider& provider, Input& input) {
  const auto what = input.byte();
  switch (what % 16) {
    case 0: guest.bus().revoke(abi::vmbus::ChannelId{input.byte() % 8u}); break;
    case 1: (void)guest.bus().offer(test_offer(1 + input.byte() % 4), provider); break;
    case 2:
      if (Channel* channel = guest.bus().find(abi::vmbus::ChannelId{input.byte() % 8u})) channel->close_finished();
      break;
    case 3:
      if (Channel* channel = guest.bus().find(abi::vmbus::ChannelId{input.byte() % 8u})) {
        (void)channel->offer_sub_channels(input.byte() % 3);
      }
      break;
    case 4: guest.signal(abi::vmbus::ChannelId{input.byte() % 8u}); break;
    case 5: guest.bus().reset(); break;
    case 6: {
      const abi::vmbus::GpadlId gpadl{input.byte() % 4u};
      if (Channel* channel = guest.bus().find(abi::vmbus::ChannelId{input.byte() % 8u})) {
        if (what & 0x80)
          channel->return_gpadl(gpadl);
        else
          channel->use_gpadl(gpadl);
      }
      break;
    }
    case 7: guest.take(); break;
    case 8: {
      const auto saved = guest.bus().save();
      // A machine that has lost a device since does not take it; a state that it takes is the same again.
      if (guest.bus().restore(saved) && provider.closes_later) check(guest.bus().save() == saved);
      break;
    }
    case 9: provider.closes_later = !provider.closes_later; break;
    default: {
      Bytes message = input.take(input.byte() % (abi::kMessagePayloadSize + 1));
      if (!message.empty() && (what & 0x80) == 0) message[0] = message[0] % 26;
      if (message.size() > 8 && (what & 0x40) == 0) std::fill_n(message.begin() + 1, 7, std::uint8_t{0});
      guest.post_bytes(message, abi::ConnectionId{what & 0x20 ? 1u : 4u});
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  EchoProvider provider;
  FakeGuest guest;
  check(guest.bus().offer(test_offer(1), provider).has_value());
  check(guest.bus().offer(test_offer(2), provider).has_value());
  Input input(data, size);
  if (input.byte() & 1) guest.connect();
  while (!input.empty()) {
    step(guest, provider, input);
    check(guest.bus().messages().size() <= MessageQueue::kMaximum);
  }
  return 0;
}
