// SPDX-License-Identifier: Apache-2.0
#include "vsp/memory/dynamic_memory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "vsp/bytes.hpp"

namespace bulkhead::vsp::memory {

using namespace abi::dynamic_memory;
using namespace std::chrono_literals;

namespace {

constexpr state::Nanoseconds kTick = 1s;
constexpr state::Nanoseconds kReportIsOld = 10s;
constexpr state::Nanoseconds kAnswerIsLate = 30s;
constexpr state::Nanoseconds kAfterFailure = 30s;
constexpr unsigned kTicksBetweenSweeps = 10;
constexpr unsigned kTicksOfSurplus = 5;

constexpr Pages kMebibyte = 256;
constexpr Pages kLargePage = 2 * kMebibyte;         // guests balloon in these
constexpr Pages kSmallestSurplus = 16 * kMebibyte;  // less is not worth the trouble
constexpr Pages kLargestBalloonStep = 512 * kMebibyte;
constexpr Pages kHotAddStep = 32 * kMebibyte;
constexpr Pages kLargestHotAdd = 256 * kMebibyte;
constexpr std::size_t kRangesInMessage = (kMaximumMessageSize - sizeof(UnballoonRequest)) / sizeof(PageRange);

Header header(MessageType type, std::size_t size, std::uint32_t transaction) {
  return {.type = type, .size = static_cast<std::uint16_t>(size), .transaction = transaction};
}

std::uint64_t mebibytes(Pages pages) { return pages / 256; }

}  // namespace

DynamicMemory::DynamicMemory(state::Clock& clock, MemoryAccount account, const MemoryLimits& limits, MemoryPort& port,
                             std::function<void()> changed)
    : clock_(clock),
      account_(std::move(account)),
      limits_(limits),
      port_(port),
      changed_(std::move(changed)),
      reader_(clock, [this](Result<vmbus::Packet> packet) { take(std::move(packet)); }),
      timer_(clock.make_timer([this] { tick(); })) {}

vmbus::OfferParameters DynamicMemory::offer() {
  vmbus::OfferParameters parameters;
  parameters.interface_type = kInterface;
  parameters.instance = kInstance;
  return parameters;
}

Result<> DynamicMemory::set_limits(const MemoryLimits& limits) {
  if (auto checked = check_limits(limits, account_.startup()); !checked) return checked;
  const Pages possible = account_.assigned() + account_.ballooned() + account_.addable();
  if (limits.maximum > possible) {
    return fail(fmt::format("this machine was made for at most {} MiB", mebibytes(possible)));
  }
  limits_ = limits;
  return {};
}

std::optional<MemoryReport> DynamicMemory::report() const {
  if (!report_ || clock_.now() - reported_at_ > kReportIsOld) return std::nullopt;
  return report_;
}

std::optional<Pages> DynamicMemory::target() const {
  const auto last = report();
  return last ? std::optional(memory::target(limits_, last->demand, port_.host())) : std::nullopt;
}

std::string_view DynamicMemory::status() const {
  if (phase_ != Phase::Ready) return "no driver";
  if (operation_ != Operation::None && clock_.now() - operation_began_ > kAnswerIsLate) return "does not answer";
  switch (operation_) {
    case Operation::Balloon: return "asked for pages";
    case Operation::Unballoon: return "getting pages back";
    case Operation::HotAdd: return "adding memory";
    case Operation::None: break;
  }
  return report() ? "ok" : "waiting for a report";
}

Result<> DynamicMemory::open(vmbus::Channel& channel) {
  channel_ = &channel;
  phase_ = Phase::Versions;
  return {};
}

void DynamicMemory::close(vmbus::Channel& channel) {
  channel_ = nullptr;
  phase_ = Phase::Closed;
  operation_ = Operation::None;
  report_.reset();
  reader_.stop();
  timer_->disarm();
  // Another kernel in the guest (kexec) knows nothing of a balloon and uses the pages. It may, if the host can spare
  // them; otherwise they stay the host's.
  if (affordable(limits_, account_.ballooned(), port_.host()) == account_.ballooned()) account_.forget_balloon();
  channel.close_finished();
}

void DynamicMemory::start() {
  if (channel_ == nullptr) return;
  reader_.resume(*channel_);
  timer_->arm(clock_.now() + kTick);
}

void DynamicMemory::reset() {
  channel_ = nullptr;
  phase_ = Phase::Closed;
  operation_ = Operation::None;
  report_.reset();
  surplus_reports_ = 0;
  not_before_ = {};
  refused_ = swept_ = 0;
  last_refusal_.clear();
  reader_.stop();
  timer_->disarm();
  account_.reset();
}

void DynamicMemory::refuse(std::string why) {
  ++refused_;
  last_refusal_ = std::move(why);
}

bool DynamicMemory::send(std::span<const std::uint8_t> message) {
  return channel_ != nullptr && channel_->send(message) == vmbus::SendStatus::Sent;
}

void DynamicMemory::take(Result<vmbus::Packet> packet) {
  if (!packet) return refuse(packet.error().message());
  if (packet->completion_requested() && !channel_->send_completion(packet->transaction(), {})) return;
  if (packet->type() != abi::vmbus::PacketType::InBand) return refuse("a packet that is not in-band");
  const auto head = front_of<Header>(packet->payload());
  if (!head || head->size < sizeof(Header) || head->size > packet->payload().size()) {
    return refuse("a message whose size is not its own");
  }
  take_message(*head, packet->payload().first(head->size));
}

void DynamicMemory::take_message(Header head, std::span<const std::uint8_t> message) {
  switch (head.type) {
    case MessageType::VersionRequest: return take_version(message);
    case MessageType::CapabilitiesReport: return take_capabilities(message);
    case MessageType::StatusReport: return take_report(message);
    case MessageType::BalloonResponse: return take_ballooned(message);
    case MessageType::UnballoonResponse:
      if (operation_ != Operation::Unballoon) return refuse("an answer to an unballooning that was not asked for");
      return finish_operation();
    case MessageType::HotAddResponse: return take_hot_added(message);
    default: return refuse(fmt::format("a message of type {}", std::to_underlying(head.type)));
  }
}

void DynamicMemory::take_version(std::span<const std::uint8_t> message) {
  const auto request = front_of<VersionRequest>(message);
  if (!request || phase_ != Phase::Versions) return refuse("a version request out of place");
  const bool known =
      request->version == Version::V2_0 || request->version == Version::V1_0 || request->version == Version::V0_3;
  const Response response{.header = header(MessageType::VersionResponse, sizeof(Response), request->header.transaction),
                          .flags = known ? Response::kAccepted : 0};
  if (!send(bytes_of(response)) || !known) return;
  version_ = request->version;
  phase_ = Phase::Capabilities;
}

void DynamicMemory::take_capabilities(std::span<const std::uint8_t> message) {
  const auto report = front_of<CapabilitiesReport>(message);
  if (!report || phase_ != Phase::Capabilities) return refuse("a capabilities report out of place");
  const bool balloons = (report->flags & CapabilitiesReport::kBalloon) != 0;
  const Response response{
      .header = header(MessageType::CapabilitiesResponse, sizeof(Response), report->header.transaction),
      .flags = balloons ? Response::kAccepted : 0};
  if (!send(bytes_of(response)) || !balloons) return;
  guest_hot_adds_ = (report->flags & CapabilitiesReport::kHotAdd) != 0;
  phase_ = Phase::Ready;
  operation_ = Operation::None;
  surplus_reports_ = 0;
  timer_->arm(clock_.now() + kTick);
}

void DynamicMemory::take_report(std::span<const std::uint8_t> message) {
  const auto report = front_of<StatusReport>(message);
  if (!report || phase_ != Phase::Ready) return refuse("a status report out of place");
  // What the guest has committed counts what was taken from it.
  const Pages committed = std::min<Pages>(report->committed_pages, limits_.maximum + account_.ballooned());
  report_ = {.available = report->available_pages, .demand = committed - std::min(committed, account_.ballooned())};
  reported_at_ = clock_.now();
}

void DynamicMemory::take_ballooned(std::span<const std::uint8_t> message) {
  const auto response = front_of<BalloonResponse>(message);
  if (!response) return refuse("a balloon response that is cut short");
  if (operation_ != Operation::Balloon) return refuse("pages that were not asked for");
  auto ranges = message.subspan(sizeof(BalloonResponse));
  const std::size_t count = response->more_and_count >> 1;
  if (count > ranges.size() / sizeof(PageRange)) return refuse("a balloon response with fewer ranges than it says");
  for (std::size_t index = 0; index < count; ++index) {
    const auto range = *front_of<PageRange>(ranges.subspan(index * sizeof(PageRange)));
    const PageRun run{.first = first_page(range), .count = page_count(range)};
    if (run.count > asked_) {
      refuse("more pages than were asked for");
      continue;
    }
    if (!account_.take(run)) {
      refuse(fmt::format("{} pages at {:#x}, which the guest does not have", run.count, run.first));
      continue;
    }
    asked_ -= run.count;
  }
  if ((response->more_and_count & BalloonResponse::kMore) != 0) return;
  // Fewer than asked for: the guest needs the rest, whatever it reports.
  if (asked_ > 0) not_before_ = clock_.now() + kAfterFailure;
  finish_operation();
}

void DynamicMemory::take_hot_added(std::span<const std::uint8_t> message) {
  const auto response = front_of<HotAddResponse>(message);
  if (!response) return refuse("a hot-add response that is cut short");
  if (operation_ != Operation::HotAdd) return refuse("memory added that was not offered");
  if (response->page_count > asked_) return refuse("more memory added than was offered");
  account_.take_back_added(asked_ - response->page_count);
  if (response->page_count == 0) {
    if (response->result != 0) guest_hot_adds_ = false;  // it says that it never will
    not_before_ = clock_.now() + kAfterFailure;
  }
  finish_operation();
}

void DynamicMemory::begin(Operation operation, Pages pages) {
  operation_ = operation;
  asked_ = pages;
  operation_began_ = clock_.now();
}

void DynamicMemory::finish_operation() {
  operation_ = Operation::None;
  asked_ = 0;
  surplus_reports_ = 0;
  if (changed_) changed_();
}

void DynamicMemory::tick() {
  timer_->arm(clock_.now() + kTick);
  if (++ticks_ % kTicksBetweenSweeps == 0) swept_ += account_.sweep();
  if (phase_ == Phase::Ready && operation_ == Operation::None && clock_.now() >= not_before_) evaluate();
}

void DynamicMemory::evaluate() {
  const auto wanted = target();
  if (!wanted) return;
  const Pages assigned = account_.assigned();
  if (*wanted > assigned) {
    surplus_reports_ = 0;
    return grow(*wanted - assigned);
  }
  shrink(assigned - *wanted);
}

void DynamicMemory::shrink(Pages surplus) {
  if (surplus < kSmallestSurplus) {
    surplus_reports_ = 0;
    return;
  }
  least_surplus_ = surplus_reports_ == 0 ? surplus : std::min(surplus, least_surplus_);
  if (++surplus_reports_ < kTicksOfSurplus) return;
  surplus_reports_ = 0;
  ask_for_pages(std::min(least_surplus_, kLargestBalloonStep) / kLargePage * kLargePage);
}

void DynamicMemory::grow(Pages wanted) {
  wanted = affordable(limits_, wanted, port_.host());
  if (wanted == 0) return;
  if (account_.ballooned() > 0) return return_pages(wanted);
  // What is added is added in steps, but not beyond the maximum.
  const Pages most = limits_.maximum - std::min(limits_.maximum, account_.assigned());
  const Pages step = std::min({(wanted + kHotAddStep - 1) / kHotAddStep * kHotAddStep, most, kLargestHotAdd});
  if (guest_hot_adds_) hot_add(step / kLargePage * kLargePage);
}

void DynamicMemory::ask_for_pages(Pages count) {
  const BalloonRequest request{
      .header = header(MessageType::BalloonRequest, sizeof(BalloonRequest), next_transaction()),
      .page_count = static_cast<std::uint32_t>(count),
      .reserved = 0};
  if (send(bytes_of(request))) begin(Operation::Balloon, count);
}

void DynamicMemory::return_pages(Pages count) {
  std::vector<std::uint8_t> message(sizeof(UnballoonRequest));
  std::vector<PageRun> runs;
  std::uint64_t from = 0;
  while (count > 0 && runs.size() < kRangesInMessage) {
    const auto run = account_.next_ballooned(from, std::min(count, kMaximumRangePages));
    if (!run || !account_.give_back(*run)) break;
    runs.push_back(*run);
    const auto range = page_range(run->first, run->count);
    const auto bytes = bytes_of(range);
    message.insert(message.end(), bytes.begin(), bytes.end());
    from = run->first + run->count;
    count -= run->count;
  }
  const UnballoonRequest request{.header = header(MessageType::UnballoonRequest, message.size(), next_transaction()),
                                 .flags = 0,
                                 .range_count = static_cast<std::uint32_t>(runs.size())};
  std::memcpy(message.data(), &request, sizeof request);
  if (runs.empty()) return;
  if (send(message)) return begin(Operation::Unballoon, 0);
  for (const auto& run : runs) static_cast<void>(account_.take(run));
}

void DynamicMemory::hot_add(Pages count) {
  const auto run = account_.next_to_add(std::min(count, kMaximumRangePages));
  if (!run || !account_.add(*run)) return;
  const HotAddRequest request{.header = header(MessageType::HotAddRequest, sizeof(HotAddRequest), next_transaction()),
                              .memory = page_range(run->first, run->count)};
  if (send(bytes_of(request))) return begin(Operation::HotAdd, run->count);
  account_.take_back_added(run->count);
}

state::SavedUnit DynamicMemory::save() const {
  state::SavedUnit unit(1);
  unit.number("phase", std::to_underlying(phase_));
  unit.number("version", std::to_underlying(version_));
  unit.number("guest-hot-adds", guest_hot_adds_);
  unit.number("transaction", transaction_);
  unit.number("operation", std::to_underlying(operation_));
  unit.number("asked-pages", asked_);
  account_.save(unit);
  return unit;
}

Result<> DynamicMemory::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, name(), 1);
  const auto phase = static_cast<Phase>(reader.number("phase", std::to_underlying(Phase::Ready)));
  const auto version = static_cast<Version>(reader.number("version", UINT32_MAX));
  const bool hot_adds = reader.flag("guest-hot-adds");
  const auto transaction = static_cast<std::uint32_t>(reader.number("transaction", UINT32_MAX));
  const auto operation = static_cast<Operation>(reader.number("operation", std::to_underlying(Operation::HotAdd)));
  const Pages asked = reader.number("asked-pages", kMaximumRangePages);
  const auto account = account_.read(reader);
  if (auto read = reader.finish(); !read) return read;
  if ((phase != Phase::Closed) != (channel_ != nullptr)) {
    return fail("saved state of dynamic-memory: its channel is in another state");
  }
  phase_ = phase;
  version_ = version;
  guest_hot_adds_ = hot_adds;
  transaction_ = transaction;
  begin(operation, asked);
  account();
  return {};
}

void DynamicMemory::inspect(state::Inspection& node) const {
  node.value("status", status());
  node.value("minimum-mib", mebibytes(limits_.minimum));
  node.value("maximum-mib", mebibytes(limits_.maximum));
  node.value("buffer-percent", std::uint64_t{limits_.buffer_percent});
  node.value("weight", std::uint64_t{limits_.weight});
  node.value("startup-mib", mebibytes(account_.startup()));
  node.value("added-mib", mebibytes(account_.added()));
  node.value("ballooned-mib", mebibytes(account_.ballooned()));
  node.value("assigned-mib", mebibytes(account_.assigned()));
  if (const auto last = report()) {
    node.value("demand-mib", mebibytes(last->demand));
    node.value("available-mib", mebibytes(last->available));
  }
  if (const auto wanted = target()) node.value("target-mib", mebibytes(*wanted));
  node.value("refused-messages", refused_);
  if (!last_refusal_.empty()) node.value("last-refusal", last_refusal_);
  node.value("pages-taken-again", swept_);
}

}  // namespace bulkhead::vsp::memory
