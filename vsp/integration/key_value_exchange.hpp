// SPDX-License-Identifier: Apache-2.0
//
// Key-value exchange (KVP): the host reads and writes pools of keys and values in the guest, asks for its network
// addresses and sets them. The guest's daemon does the work, and may take long or not be there.
//
//   set, remove, get, enumerate,      ┌───────────── queue, bounded ─────────────┐
//   get_addresses, set_addresses  ──▶ │ an operation: one request, or one an item │ ──▶ guest ──▶ callback
//   every ten seconds: pool Auto ──▶  └───────────────────────────────────────────┘
//
// What the guest says of itself (pool Auto: names, versions, addresses) is kept for whoever asks, as of the last time.
#pragma once

#include <deque>
#include <functional>
#include <vector>

#include "vsp/integration/key_value_message.hpp"
#include "vsp/integration/service.hpp"

namespace bulkhead::vsp::integration {

class KeyValueExchange final : public Service {
 public:
  /// Called once, perhaps before the call that it was given to returns.
  template <typename T = void>
  using Done = std::function<void(Result<T>)>;

  explicit KeyValueExchange(state::Clock& clock);

  // Errors: the service is not ready, too many operations wait, text that cannot be sent, the guest does not answer or
  // refuses.
  void set(KeyValuePool pool, std::string_view key, std::string_view value, Done<> done);
  void remove(KeyValuePool pool, std::string_view key, Done<> done);
  /// Nothing: there is no such key.
  void get(KeyValuePool pool, std::string_view key, Done<std::optional<std::string>> done);
  /// At most kMaximumItems.
  void enumerate(KeyValuePool pool, Done<std::vector<KeyValueItem>> done);
  void get_addresses(std::string_view adapter, Done<GuestAddresses> done);
  void set_addresses(std::string_view adapter, const GuestAddresses& wanted, Done<> done);

  /// Pool Auto, when it was last read.
  const std::vector<KeyValueItem>& known() const { return known_; }
  /// The value of one key of it, or empty.
  std::string_view known(std::string_view key) const;

  static constexpr std::size_t kMaximumItems = 256;
  static constexpr std::size_t kMaximumWaiting = 32;

 private:
  struct Answer {
    abi::integration::Status status;
    std::span<const std::uint8_t> body;
  };
  enum class Next : std::uint8_t { Finished, AskAgain };
  struct Operation {
    /// The request, as the guest's version wants it.
    std::function<Result<Bytes>()> message;
    /// What becomes of the answer, or of an error, after which the operation is finished. Error: makes no sense.
    std::function<Result<Next>(Result<Answer>)> take;
  };

  void add(Operation operation);
  void add_simple(std::function<Result<Bytes>()> message, Done<> done);
  void begin_next();
  /// Takes the first operation out of the queue, with this error.
  void fail_first(const Error& error);
  void fail_all(const Error& error);
  void refresh();

  void on_ready() override;
  void on_closed() override;
  bool on_answer(abi::integration::Status status, std::span<const std::uint8_t> body) override;
  void on_silence() override;
  void on_restored() override;
  void inspect_more(state::Inspection& node) const override;

  std::deque<Operation> waiting_;  // the first is under way, if a request is
  std::unique_ptr<state::Timer> refresh_timer_;
  std::vector<KeyValueItem> known_;
};

}  // namespace bulkhead::vsp::integration
