// SPDX-License-Identifier: Apache-2.0
//
// The disk side of a controller: the units at their addresses, and the commands that are under way.
//
//   begin ─▶ limits? ─▶ Waiting ─▶ Running ─▶ unit ─▶ Finished ─▶ the controller answers
//                                     │  ▲
//                       host disk full│  │ retry_parked: the machine goes on
//                                     ▼  │
//                                    Parked
//
// A reset takes away what waits, lets what runs come to its end (the kernel may be writing to guest memory), and only
// then is answered itself.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>

#include "vsp/storage/limiter.hpp"
#include "vsp/storage/logical_unit.hpp"
#include "vsp/storage/request.hpp"
#include "vsp/storage/storage_host.hpp"

namespace bulkhead::vsp::storage {

class StorageTarget {
 public:
  /// `finished` takes the answered request; it is called on the disk side.
  using Finished = std::function<void(std::unique_ptr<Request>)>;

  StorageTarget(StorageHost& host, Finished finished) : host_(host), finished_(std::move(finished)) {}

  /// Error: the address is taken.
  Result<> attach(Address address, std::unique_ptr<LogicalUnit> unit, Limits limits);
  /// Takes a unit away: what waits for it is answered, what runs comes to its end, and its disk is closed; then `gone`
  /// is called with what closing it gave. Error: there is none.
  Result<> detach(Address address, std::function<void(Result<>)> gone);
  Result<> set_limits(Address address, Limits limits);
  LogicalUnit* find(Address address) const;
  std::vector<Address> addresses() const;

  /// EXECUTE_SRB or one of the resets. Its data have been checked against the guest's memory.
  void begin(std::unique_ptr<Request> request);
  /// Ends what waits and was sent on this channel, because the guest closes it.
  void abort(abi::vmbus::ChannelId channel);
  /// Tries again what the host had no room for.
  void retry_parked();
  /// Lets everything come to its end, limits or not. What is parked stays so.
  void drain();
  /// Power off and on: ends what is parked, and resets the units.
  void power_on();

  bool is_idle() const { return requests_.empty(); }
  /// What is parked, in the order in which it came.
  std::vector<const Request*> parked() const;
  void adopt_parked(std::unique_ptr<Request> request);

  state::SavedList save_units() const;
  Result<> restore_units(const state::SavedList& saved);
  void inspect(state::Inspection& node) const;

 private:
  struct Slot {
    std::unique_ptr<LogicalUnit> unit;
    Limiter limiter;
    std::deque<Request*> waiting;
    unsigned running = 0;
    bool timer_runs = false;
    std::function<void(Result<>)> gone;  // set: the unit is on its way out
    std::uint64_t commands = 0;
    std::uint64_t failures = 0;
    std::string last_failure = {};
  };
  using Requests = std::list<std::unique_ptr<Request>>;

  static std::uint64_t bytes_of(const Slot& slot, const Request& request);
  void execute(Request& request);
  void admit_or_wait(Slot& slot, Request& request);
  void admit_waiting(Address address);
  void run(Slot& slot, Request& request);
  void ended(Request& request, const ScsiResult& result);
  void park(Slot& slot, Request& request, const ScsiResult& result);
  void begin_reset(Request& reset);
  void finish_resets();
  void leave_if_idle(Address address);
  ScsiResult report_luns(const Request& request) const;

  template <typename Condition>
  void abort_if(abi::storage::SrbStatus status, Condition condition);
  void answer(Request& request, const ScsiResult& result);
  void answer(Request& request, abi::storage::SrbStatus status, abi::storage::Status nt_status);
  void finish(Request& request);

  StorageHost& host_;
  Finished finished_;
  std::map<Address, Slot> slots_;
  Requests requests_;  // all that are not finished, oldest first
  std::vector<Request*> resets_;
  std::uint64_t next_number_ = 1;
  bool told_of_full_host_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace bulkhead::vsp::storage
