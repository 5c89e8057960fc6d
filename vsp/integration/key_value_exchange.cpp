// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/key_value_exchange.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace bulkhead::vsp::integration {

using namespace abi::integration;
using namespace std::chrono_literals;

namespace {

constexpr state::Nanoseconds kLimit = 35s;  // Linux gives its daemon 30 s, and then answers in its place
constexpr state::Nanoseconds kRefresh = 10s;
constexpr std::array<Version, 4> kVersions = {Version{5, 0}, Version{4, 0}, Version{3, 0}, Version{1, 0}};
constexpr Profile kProfile = {.name = "key-value-exchange",
                              .title = "key-value exchange",
                              .interface_type = kKeyValueInterface,
                              .instance = kKeyValueInstance,
                              .type = MessageType::KeyValueExchange,
                              .message_versions = kVersions};

bool is_absent(Status status) { return status == Status::NoMoreItems || status == Status::NotFound; }

Error refusal(Status status) {
  if (status == Status::Fail) return Error("the guest could not do it; perhaps its key-value daemon does not run");
  return Error(fmt::format("the guest refuses, with the status {:#x}", std::to_underlying(status)));
}

const Error kSenseless("the guest's answer makes no sense");

}  // namespace

KeyValueExchange::KeyValueExchange(state::Clock& clock)
    : Service(kProfile, clock), refresh_timer_(clock.make_timer([this] { refresh(); })) {}

void KeyValueExchange::add(Operation operation) {
  if (auto ready = check_ready(); !ready) return static_cast<void>(operation.take(std::unexpected(ready.error())));
  if (waiting_.size() >= kMaximumWaiting) {
    return static_cast<void>(operation.take(fail("too many key-value operations wait already")));
  }
  waiting_.push_back(std::move(operation));
  if (waiting_.size() == 1) begin_next();
}

void KeyValueExchange::begin_next() {
  while (!waiting_.empty()) {
    auto message = waiting_.front().message();
    Result<> sent;
    if (!message)
      sent = std::unexpected(message.error());
    else
      sent = request(*message, kLimit);
    if (sent) return;
    fail_first(sent.error());
  }
}

void KeyValueExchange::fail_first(const Error& error) {
  // Out of the queue first: who hears of the error may ask for something else.
  const Operation operation = std::move(waiting_.front());
  waiting_.pop_front();
  static_cast<void>(operation.take(std::unexpected(error)));
}

void KeyValueExchange::fail_all(const Error& error) {
  for (auto operations = std::exchange(waiting_, {}); !operations.empty(); operations.pop_front()) {
    static_cast<void>(operations.front().take(std::unexpected(error)));
  }
}

bool KeyValueExchange::on_answer(Status status, std::span<const std::uint8_t> body) {
  if (waiting_.empty()) return true;
  const Operation operation = waiting_.front();
  const auto next = operation.take(Answer{.status = status, .body = body});
  const bool again = next && *next == Next::AskAgain;
  if (!again && !waiting_.empty()) waiting_.pop_front();
  if (is_idle()) begin_next();
  return next.has_value();
}

void KeyValueExchange::on_silence() {
  if (!waiting_.empty()) fail_first(Error("the guest does not answer"));
  if (is_idle()) begin_next();
}

void KeyValueExchange::on_ready() { refresh(); }

void KeyValueExchange::on_closed() {
  refresh_timer_->disarm();
  known_.clear();
  fail_all(Error("the guest has closed the key-value exchange"));
}

void KeyValueExchange::on_restored() {
  fail_all(Error("the machine was saved meanwhile"));
  if (phase() == Phase::Ready) refresh_timer_->arm(clock().now());
}

void KeyValueExchange::refresh() {
  refresh_timer_->arm(clock().now() + kRefresh);
  if (!waiting_.empty()) return;
  enumerate(KeyValuePool::Auto, [this](Result<std::vector<KeyValueItem>> items) {
    if (items)
      known_ = std::move(*items);
    else
      known_.clear();
  });
}

std::string_view KeyValueExchange::known(std::string_view key) const {
  const auto found = std::ranges::find(known_, key, &KeyValueItem::key);
  return found == known_.end() ? std::string_view() : std::string_view(found->value);
}

void KeyValueExchange::add_simple(std::function<Result<Bytes>()> message, Done<> done) {
  add({.message = std::move(message), .take = [done = std::move(done)](Result<Answer> answer) -> Result<Next> {
         if (!answer)
           done(std::unexpected(answer.error()));
         else if (answer->status != Status::Ok)
           done(std::unexpected(refusal(answer->status)));
         else
           done({});
         return Next::Finished;
       }});
}

void KeyValueExchange::set(KeyValuePool pool, std::string_view key, std::string_view value, Done<> done) {
  add_simple([pool, key = std::string(key), value = std::string(value)] { return set_message(pool, key, value); },
             std::move(done));
}

void KeyValueExchange::remove(KeyValuePool pool, std::string_view key, Done<> done) {
  add({.message = [pool, key = std::string(key)] { return delete_message(pool, key); },
       .take = [done = std::move(done)](Result<Answer> answer) -> Result<Next> {
         if (!answer)
           done(std::unexpected(answer.error()));
         else if (is_absent(answer->status))
           done(fail("there is no such key"));
         else if (answer->status != Status::Ok)
           done(std::unexpected(refusal(answer->status)));
         else
           done({});
         return Next::Finished;
       }});
}

void KeyValueExchange::get(KeyValuePool pool, std::string_view key, Done<std::optional<std::string>> done) {
  // Linux's daemon finds the key and leaves its value out: an empty value is looked up among all items of the pool.
  struct Walk {
    std::string key;
    bool began = false;
    std::uint32_t index = 0;
  };
  auto walk = std::make_shared<Walk>(Walk{.key = std::string(key)});
  add({.message = [pool, walk]() -> Result<Bytes> {
         return walk->began ? enumerate_message(pool, walk->index) : get_message(pool, walk->key);
       },
       .take = [walk, done = std::move(done)](Result<Answer> answer) -> Result<Next> {
         if (!answer) return done(std::unexpected(answer.error())), Next::Finished;
         if (is_absent(answer->status)) {
           return done(walk->began ? std::optional<std::string>("") : std::nullopt), Next::Finished;
         }
         if (answer->status != Status::Ok) return done(std::unexpected(refusal(answer->status))), Next::Finished;
         auto item = walk->began ? parse_enumerate_answer(answer->body) : parse_get_answer(answer->body);
         if (!item) return done(std::unexpected(kSenseless)), std::unexpected(kSenseless);
         const bool found = walk->began ? item->key == walk->key : !item->value.empty();
         if (found) return done(std::move(item->value)), Next::Finished;
         walk->index += std::exchange(walk->began, true) ? 1 : 0;
         if (walk->index < kMaximumItems) return Next::AskAgain;
         return done(std::string()), Next::Finished;
       }});
}

void KeyValueExchange::enumerate(KeyValuePool pool, Done<std::vector<KeyValueItem>> done) {
  auto items = std::make_shared<std::vector<KeyValueItem>>();
  add({.message = [pool, items]() -> Result<Bytes> {
         return enumerate_message(pool, static_cast<std::uint32_t>(items->size()));
       },
       .take = [items, done = std::move(done)](Result<Answer> answer) -> Result<Next> {
         if (!answer) return done(std::unexpected(answer.error())), Next::Finished;
         if (is_absent(answer->status)) return done(std::move(*items)), Next::Finished;
         if (answer->status != Status::Ok) return done(std::unexpected(refusal(answer->status))), Next::Finished;
         auto item = parse_enumerate_answer(answer->body);
         if (!item) return done(std::unexpected(kSenseless)), std::unexpected(kSenseless);
         items->push_back(std::move(*item));
         if (items->size() < kMaximumItems) return Next::AskAgain;
         return done(std::move(*items)), Next::Finished;
       }});
}

void KeyValueExchange::get_addresses(std::string_view adapter, Done<GuestAddresses> done) {
  add({.message = [this, adapter = std::string(adapter)] { return get_addresses_message(versions(), adapter); },
       .take = [this, done = std::move(done)](Result<Answer> answer) -> Result<Next> {
         if (!answer) return done(std::unexpected(answer.error())), Next::Finished;
         if (answer->status != Status::Ok) return done(std::unexpected(refusal(answer->status))), Next::Finished;
         auto found = parse_addresses_answer(versions(), answer->body);
         if (!found) return done(std::unexpected(kSenseless)), std::unexpected(kSenseless);
         return done(std::move(*found)), Next::Finished;
       }});
}

void KeyValueExchange::set_addresses(std::string_view adapter, const GuestAddresses& wanted, Done<> done) {
  add_simple(
      [this, adapter = std::string(adapter), wanted] { return set_addresses_message(versions(), adapter, wanted); },
      std::move(done));
}

void KeyValueExchange::inspect_more(state::Inspection& node) const {
  node.value("waiting-operations", std::uint64_t{waiting_.size()});
  auto& items = node.child("guest");
  for (const auto& item : known_) items.value(item.key, item.value);
}

}  // namespace bulkhead::vsp::integration
