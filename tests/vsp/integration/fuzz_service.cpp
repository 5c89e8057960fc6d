// SPDX-License-Identifier: Apache-2.0
#include "tests/vsp/integration/fuzz_service.hpp"

namespace bulkhead::vsp::integration {

using fuzz::check;
using fuzz::Input;

void ServiceFuzz::run(Input input) {
  while (!input.is_empty()) step(input);
  if (open_) guest_.close();
  check(asked_.begun == asked_.ended);
  check(service_.phase() == Phase::Closed);
  // Nobody is left to do anything for.
  clock_.advance(std::chrono::hours(1));
  check(clock_.armed_timers() <= 1);
}

void ServiceFuzz::step(Input& input) {
  const std::uint8_t what = input.byte();
  if (!open_ && what % 8 != 5 && what % 8 != 3) return open(input);
  switch (what % 8) {
    case 0: return answer(input);
    case 1: return answer_changed(input);
    case 2:
      if (open_) guest_.send_raw(input.take(input.byte()), input.byte() % 2);
      return;
    case 3: return clock_.advance(std::chrono::milliseconds(input.byte() * input.byte()));
    case 4:
      if (what < 0x40) return save_and_restore();
      guest_.close();
      open_ = false;
      return;
    case 5: return act_(input);
    case 6: return flood(input);
    default: return take_messages();
  }
}

void ServiceFuzz::open(Input& input) {
  if (openings_++ >= kMostOpenings) return;
  received_.clear();
  guest_.open(6);
  open_ = true;
  take_messages();
  if (received_.empty()) return;
  const std::uint8_t choice = input.byte();
  if (choice == 0xff) return guest_.answer(received_.back(), input.take(input.byte() % 32));
  guest_.choose(received_.back(), choice & 0x80 ? Version{1, 0} : Version{3, 0}, versions_[choice % versions_.size()]);
}

void ServiceFuzz::take_messages() {
  while (const auto message = guest_.receive()) received_.push_back(*message);
  if (received_.size() > 8) received_.erase(received_.begin(), received_.end() - 8);
}

/// The answer of an honest guest to its last request, or to an older one.
void ServiceFuzz::answer(Input& input) {
  take_messages();
  if (received_.empty()) return;
  const std::uint8_t how = input.byte();
  const auto& request = received_[received_.size() - 1 - (how >> 4) % received_.size()];
  constexpr Status kStatuses[] = {Status::Ok, Status::Ok,       Status::NoMoreItems, Status::Fail,
                                  Status::Ok, Status::NotFound, Status::FileExists,  Status::Ok};
  Bytes body = request.body;
  if (request.header.type == MessageType::Heartbeat && !body.empty() && (how & 8) == 0) ++body[0];
  guest_.answer(request, body, kStatuses[how % 8]);
}

/// The host's message with bytes of header and body changed, longer or shorter.
void ServiceFuzz::answer_changed(Input& input) {
  take_messages();
  if (received_.empty()) return;
  MessageHeader header = received_.back().header;
  header.flags = MessageFlags::kTransaction | MessageFlags::kResponse;
  header.status = Status::Ok;
  Bytes body = received_.back().body;
  for (std::uint8_t changes = input.byte() % 16; changes > 0; --changes) {
    const std::size_t at = input.half();
    const Bytes bytes = input.take(1 + input.byte() % 8);
    for (std::size_t index = 0; index < bytes.size() && at + index < body.size(); ++index)
      body[at + index] = bytes[index];
  }
  const std::uint8_t lengths = input.byte();
  if (lengths & 1) body.resize(input.half() % (body.size() + 1));
  header.size = static_cast<std::uint16_t>(body.size());
  if (lengths & 2) header.size = input.half();
  if (lengths & 4) header.transaction = input.byte();
  if (lengths & 8) header.type = static_cast<MessageType>(input.byte() % 16);
  if (lengths & 16) header.flags = input.byte();
  if (lengths & 32) header.status = static_cast<Status>(input.word());
  if (guest_.channel().to_host.free() > body.size() + 128) guest_.send(header, body);
}

void ServiceFuzz::flood(Input& input) {
  const Bytes payload = input.take(input.byte() % 64);
  const std::size_t fired = clock_.fired();
  for (std::uint8_t count = input.byte(); count > 0; --count) guest_.send_raw(payload, 0, count % 16 == 1);
  clock_.advance(std::chrono::milliseconds(10));
  check(clock_.fired() - fired < 100);
}

void ServiceFuzz::save_and_restore() {
  const auto bus = fake_.bus().save();
  const auto saved = service_.save();
  fake_.bus().reset();
  service_.reset();
  check(fake_.bus().restore(bus).has_value());
  check(service_.restore(saved).has_value());
  service_.start();
  received_.clear();
}

}  // namespace bulkhead::vsp::integration
