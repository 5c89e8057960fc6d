// SPDX-License-Identifier: Apache-2.0
//
// A guest's balloon driver for tests, over the fake guest's rings, and memory that only keeps the books. Written after
// abi/dynamic_memory.hpp alone.
#pragma once

#include <optional>
#include <set>
#include <vector>

#include "abi/dynamic_memory.hpp"
#include "tests/state/fake_clock.hpp"
#include "tests/vmbus/fake_guest.hpp"
#include "vsp/memory/dynamic_memory.hpp"

namespace bulkhead::vsp::memory {

constexpr Pages kMebibyte = 256;

/// Which pages are the guest's, and what the host has. Pages that the guest has used without having them are "used again".
class FakeMemory final : public MemoryPort {
 public:
  explicit FakeMemory(const std::vector<PageRun>& startup, Pages limit = 16384);

  /// As a new partition has it.
  void power_on();

  void release(const PageRun& run) override;
  bool provide(const PageRun& run) override;
  Pages used_again(const PageRun& run) const override;
  HostMemory host() const override { return host_; }

  bool has(std::uint64_t page) const { return page < guest_pages_.size() && guest_pages_[page]; }
  bool has_all(const PageRun& run) const;
  bool has_none(const PageRun& run) const;
  Pages size() const { return size_; }
  /// The guest uses a page, with right or without.
  void touch(std::uint64_t page) { touched_.insert(page); }
  void set_host(HostMemory host) { host_ = host; }
  void let_host_run_out() { gives_ = false; }

 private:
  void change(const PageRun& run, bool given);

  std::vector<PageRun> startup_;
  std::vector<bool> guest_pages_;
  Pages size_ = 0;
  std::set<std::uint64_t> touched_;
  HostMemory host_{.total = 16384 * kMebibyte, .available = 8192 * kMebibyte};
  bool gives_ = true;
};

/// A machine of 256 MiB at the start, with room for 768 MiB more from there on, unless a test wants a smaller one; and its
/// guest's driver.
class MemoryGuest {
 public:
  explicit MemoryGuest(Pages startup = 256 * kMebibyte, Pages maximum = 1024 * kMebibyte);

  /// Opens the channel.
  void open();
  void close();
  /// Opens it and comes to terms.
  void connect(abi::dynamic_memory::Version version = abi::dynamic_memory::Version::V2_0, bool hot_adds = true);
  /// A report: so much is committed (with what was ballooned), so much is free.
  void report(Pages committed, Pages available = 64 * kMebibyte);
  /// Lets seconds pass, with a report in each.
  void report_for(unsigned seconds, Pages committed);

  /// The next message of the host's, whole.
  std::optional<vmbus::Bytes> receive();
  template <typename Message>
  std::optional<Message> receive_as(abi::dynamic_memory::MessageType type) {
    const auto bytes = receive();
    if (!bytes || vmbus::part_of<abi::dynamic_memory::Header>(*bytes).type != type) return std::nullopt;
    return vmbus::part_of<Message>(*bytes);
  }
  /// Any bytes, as a packet. False: the ring is full.
  bool send_bytes(const vmbus::Bytes& bytes);
  template <typename Message>
  void send(abi::dynamic_memory::MessageType type, Message message) {
    message.header.type = type;
    message.header.size = sizeof message;
    send_bytes(vmbus::bytes_of(message));
  }
  /// Answers a BALLOON_REQUEST with these pages.
  void give(const std::vector<PageRun>& runs, bool more = false);
  void hot_added(Pages count, std::uint32_t result = 1);
  void unballooned();

  std::string inspected(const std::string& name) const;

  state::FakeClock clock;
  FakeMemory memory;
  DynamicMemory provider;
  unsigned changes = 0;
  vmbus::FakeGuest fake;

 private:
  abi::vmbus::ChannelId id_;
  std::optional<vmbus::GuestChannel> channel_;
};

}  // namespace bulkhead::vsp::memory
