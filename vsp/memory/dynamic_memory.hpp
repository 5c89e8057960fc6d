// SPDX-License-Identifier: Apache-2.0
//
// Dynamic memory: a machine has as much memory as it needs, between a minimum and a maximum. The guest's balloon driver
// tells its demand every second; the policy (vsp/memory/memory_policy.hpp) says what the machine shall have; this
// provider asks the guest for pages, gives them back, or adds memory, one of these at a time.
//
//   STATUS_REPORT ──▶ demand ──▶ target ──▶ less than assigned, for a while ──▶ BALLOON_REQUEST ──▶ pages ──▶ host
//                                      └──▶ more: ballooned pages, then new memory ──▶ UNBALLOON, HOT_ADD ──▶ guest
//
// The guest is not trusted. Pages that it does not have, or has given up before, or that nobody asked for are refused
// and counted. A guest that does not answer is asked for nothing more and given nothing more until it does. A guest that
// says it needs much gets what its limits and the host allow; one that says it needs little gives up its own memory.
#pragma once

#include <functional>
#include <string>

#include "abi/dynamic_memory.hpp"
#include "state/clock.hpp"
#include "state/state_unit.hpp"
#include "vmbus/channel.hpp"
#include "vsp/memory/memory_account.hpp"
#include "vsp/portioned_reader.hpp"

namespace bulkhead::vsp::memory {

/// Of the guest's last report, in pages.
struct MemoryReport {
  Pages available = 0;
  Pages demand = 0;
};

class DynamicMemory final : public vmbus::ChannelProvider, public state::StateUnit {
 public:
  /// `changed` is called when the machine has got or given memory.
  DynamicMemory(state::Clock& clock, MemoryAccount account, const MemoryLimits& limits, MemoryPort& port,
                std::function<void()> changed);

  static vmbus::OfferParameters offer();

  const MemoryAccount& account() const { return account_; }
  const MemoryLimits& limits() const { return limits_; }
  /// The maximum may not be more than what the machine was made with. Errors: those of check_limits.
  Result<> set_limits(const MemoryLimits& limits);
  /// What the guest last said; nothing if it has not, or not for ten seconds.
  std::optional<MemoryReport> report() const;
  /// What the machine shall have, if the guest has said what it needs.
  std::optional<Pages> target() const;
  /// "no driver", "waiting for a report", "ok", "asked for pages", ..., "does not answer".
  std::string_view status() const;
  /// Messages that made no sense, or claimed what is not so.
  std::uint64_t refused() const { return refused_; }

  // vmbus::ChannelProvider
  std::size_t completion_size() const override { return 0; }
  Result<> open(vmbus::Channel& channel) override;
  void readable(vmbus::Channel& channel) override { reader_.read(channel); }
  void close(vmbus::Channel& channel) override;
  void restored(vmbus::Channel& channel) override { channel_ = &channel; }

  // state::StateUnit
  std::string_view name() const override { return "dynamic-memory"; }
  void start() override;
  void stop() override {}
  void reset() override;
  state::SavedUnit save() const override;
  Result<> restore(const state::SavedUnit& saved) override;
  void inspect(state::Inspection& node) const override;

 private:
  enum class Phase : std::uint8_t { Closed, Versions, Capabilities, Ready };
  enum class Operation : std::uint8_t { None, Balloon, Unballoon, HotAdd };

  void take(Result<vmbus::Packet> packet);
  void take_message(abi::dynamic_memory::Header header, std::span<const std::uint8_t> message);
  void take_version(std::span<const std::uint8_t> message);
  void take_capabilities(std::span<const std::uint8_t> message);
  void take_report(std::span<const std::uint8_t> message);
  void take_ballooned(std::span<const std::uint8_t> message);
  void take_hot_added(std::span<const std::uint8_t> message);
  void refuse(std::string why);
  bool send(std::span<const std::uint8_t> message);
  std::uint32_t next_transaction() { return ++transaction_; }

  void tick();
  void evaluate();
  void shrink(Pages surplus);
  void grow(Pages wanted);
  void ask_for_pages(Pages count);
  void return_pages(Pages count);
  void hot_add(Pages count);
  void begin(Operation operation, Pages pages);
  void finish_operation();

  state::Clock& clock_;
  MemoryAccount account_;
  MemoryLimits limits_;
  MemoryPort& port_;
  std::function<void()> changed_;
  PortionedReader reader_;
  std::unique_ptr<state::Timer> timer_;
  vmbus::Channel* channel_ = nullptr;
  Phase phase_ = Phase::Closed;
  abi::dynamic_memory::Version version_{};
  bool guest_hot_adds_ = false;
  std::uint32_t transaction_ = 0;

  Operation operation_ = Operation::None;
  Pages asked_ = 0;  // of the operation: what the guest has not answered for yet
  state::Nanoseconds operation_began_{0};
  state::Nanoseconds not_before_{0};  // after a failure, nothing is tried before this

  std::optional<MemoryReport> report_;
  state::Nanoseconds reported_at_{0};
  unsigned surplus_reports_ = 0;  // ticks in a row in which the machine had more than it needs
  Pages least_surplus_ = 0;       // of those

  std::uint64_t ticks_ = 0;
  std::uint64_t refused_ = 0;
  std::string last_refusal_;
  Pages swept_ = 0;
};

}  // namespace bulkhead::vsp::memory
