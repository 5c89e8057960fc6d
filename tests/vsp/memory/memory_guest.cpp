// SPDX-License-Identifier: Apache-2.0
#include "tests/vsp/memory/memory_guest.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

namespace bulkhead::vsp::memory {

using namespace abi::dynamic_memory;
using vmbus::Bytes;

FakeMemory::FakeMemory(const std::vector<PageRun>& startup, Pages limit) : startup_(startup), guest_pages_(limit) {
  power_on();
}

void FakeMemory::power_on() {
  guest_pages_.assign(guest_pages_.size(), false);
  size_ = 0;
  for (const auto& run : startup_) change(run, true);
}

void FakeMemory::change(const PageRun& run, bool given) {
  if (run.first > guest_pages_.size() || run.count > guest_pages_.size() - run.first) std::abort();
  const auto begin = guest_pages_.begin() + static_cast<std::ptrdiff_t>(run.first);
  const auto end = begin + static_cast<std::ptrdiff_t>(run.count);
  size_ -= static_cast<Pages>(std::count(begin, end, true));
  std::fill(begin, end, given);
  if (given) size_ += run.count;
}

void FakeMemory::release(const PageRun& run) {
  change(run, false);
  touched_.erase(touched_.lower_bound(run.first), touched_.lower_bound(run.first + run.count));
}

bool FakeMemory::provide(const PageRun& run) {
  if (!gives_) return false;
  change(run, true);
  return true;
}

Pages FakeMemory::used_again(const PageRun& run) const {
  return static_cast<Pages>(
      std::distance(touched_.lower_bound(run.first), touched_.lower_bound(run.first + run.count)));
}

bool FakeMemory::has_all(const PageRun& run) const {
  for (std::uint64_t page = run.first; page < run.first + run.count; ++page) {
    if (!has(page)) return false;
  }
  return true;
}

bool FakeMemory::has_none(const PageRun& run) const {
  for (std::uint64_t page = run.first; page < run.first + run.count; ++page) {
    if (has(page)) return false;
  }
  return true;
}

MemoryGuest::MemoryGuest(Pages startup, Pages maximum)
    : memory({{.first = 0, .count = startup}}, maximum),
      provider(
          clock,
          MemoryAccount({{.first = 0, .count = startup}}, {{.first = startup, .count = maximum - startup}}, memory),
          {.minimum = startup / 2, .maximum = maximum}, memory, [this] { ++changes; }),
      id_(*fake.bus().offer(DynamicMemory::offer(), provider)) {
  fake.connect();
}

void MemoryGuest::open() {
  channel_ = fake.open(id_, 5);
  if (!channel_) std::abort();
}

void MemoryGuest::close() {
  fake.close(*channel_);
  fake.take_back(*channel_);
  channel_.reset();
}

void MemoryGuest::connect(Version version, bool hot_adds) {
  open();
  send(MessageType::VersionRequest, VersionRequest{.header = {}, .version = version, .flags = 0});
  receive();
  send(MessageType::CapabilitiesReport,
       CapabilitiesReport{.header = {},
                          .flags = CapabilitiesReport::kBalloon | (hot_adds ? CapabilitiesReport::kHotAdd : 0),
                          .minimum_page_count = 0,
                          .maximum_page_number = UINT64_MAX});
  receive();
}

void MemoryGuest::report(Pages committed, Pages available) {
  send(MessageType::StatusReport, StatusReport{.header = {},
                                               .available_pages = available,
                                               .committed_pages = committed,
                                               .page_file_size = 0,
                                               .zero_free_pages = 0,
                                               .page_file_writes = 0,
                                               .io_difference = 0});
}

void MemoryGuest::report_for(unsigned seconds, Pages committed) {
  for (unsigned second = 0; second < seconds; ++second) {
    report(committed);
    clock.advance(std::chrono::seconds(1));
  }
}

std::optional<Bytes> MemoryGuest::receive() {
  const auto packet = channel_->from_host.read();
  if (!packet) return std::nullopt;
  fake.signal(id_);
  return packet->payload;
}

bool MemoryGuest::send_bytes(const Bytes& bytes) {
  const bool sent = channel_->to_host.write(abi::vmbus::PacketType::InBand, 0, 3, {}, bytes);
  fake.signal(id_);
  return sent;
}

void MemoryGuest::give(const std::vector<PageRun>& runs, bool more) {
  const std::size_t size = sizeof(BalloonResponse) + runs.size() * sizeof(PageRange);
  Bytes message = vmbus::bytes_of(BalloonResponse{
      .header = {.type = MessageType::BalloonResponse, .size = static_cast<std::uint16_t>(size), .transaction = 1},
      .reserved = 0,
      .more_and_count = static_cast<std::uint32_t>(runs.size() << 1) | (more ? BalloonResponse::kMore : 0)});
  for (const auto& run : runs) {
    const Bytes range = vmbus::bytes_of(page_range(run.first, run.count));
    message.insert(message.end(), range.begin(), range.end());
  }
  send_bytes(message);
}

void MemoryGuest::hot_added(Pages count, std::uint32_t result) {
  send(MessageType::HotAddResponse,
       HotAddResponse{.header = {}, .page_count = static_cast<std::uint32_t>(count), .result = result});
}

void MemoryGuest::unballooned() {
  struct Empty {
    Header header;
  };
  send(MessageType::UnballoonResponse, Empty{});
}

std::string MemoryGuest::inspected(const std::string& name) const {
  state::Inspection node;
  provider.inspect(node);
  for (const auto& [key, value] : node.values()) {
    if (key == name) return std::visit([](const auto& content) { return fmt::format("{}", content); }, value);
  }
  return {};
}

}  // namespace bulkhead::vsp::memory
