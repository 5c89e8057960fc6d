// SPDX-License-Identifier: Apache-2.0
#include "vdev/ioapic.hpp"

#include <fmt/format.h>
#include <algorithm>

namespace bulkhead::vdev {
namespace {

constexpr std::uint64_t kSelectRegister = 0x00;
constexpr std::uint64_t kWindow = 0x10;
constexpr std::uint64_t kEndOfInterrupt = 0x40;

constexpr std::uint8_t kIdentification = 0;
constexpr std::uint8_t kVersion = 1;
constexpr std::uint8_t kArbitration = 2;
constexpr std::uint8_t kFirstEntry = 0x10;
constexpr std::uint32_t kVersionValue = 0x20 | (IoApic::kInputCount - 1) << 16;

// A redirection table entry.
constexpr std::uint64_t kLogicalDestination = 1 << 11;
constexpr std::uint64_t kRemoteIrr = 1 << 14;
constexpr std::uint64_t kLevelTriggered = 1 << 15;
constexpr std::uint64_t kMasked = 1 << 16;
constexpr std::uint64_t kWritable = 0xff00'0000'0001'afff;  // not the delivery status and the remote IRR
constexpr std::uint64_t kResetEntry = kMasked;

enum class DeliveryMode : std::uint8_t { Fixed = 0, LowestPriority = 1, Smi = 2, Nmi = 4, Init = 5, ExtInt = 7 };

DeliveryMode delivery_mode(std::uint64_t entry) { return static_cast<DeliveryMode>(entry >> 8 & 7); }

// Only interrupts with an end can be level-triggered; the other kinds are edges whatever the bit says.
bool awaits_end(std::uint64_t entry) {
  return (entry & kLevelTriggered) &&
         (delivery_mode(entry) == DeliveryMode::Fixed || delivery_mode(entry) == DeliveryMode::LowestPriority);
}

InterruptMessage message_of(std::uint64_t entry) {
  InterruptMessage message{};
  message.address = 0xfee0'0000 | (entry >> 56) << 12;
  if (entry & kLogicalDestination) message.address |= 1 << 2;
  if (delivery_mode(entry) == DeliveryMode::LowestPriority) message.address |= 1 << 3;
  message.data = static_cast<std::uint32_t>(entry & 0x7ff);
  if (awaits_end(entry)) message.data |= 1u << 15 | 1u << 14;
  return message;
}

}  // namespace

IoApic::IoApic(InterruptMessageSink& sink, LevelMessageListener& listener) : sink_(sink), listener_(listener) {
  entries_.fill(kResetEntry);
}

void IoApic::set_input(unsigned input, bool high) {
  if (input >= kInputCount) return;
  const std::uint32_t mask = 1u << input;
  const bool rises = high && !(inputs_ & mask);
  inputs_ = high ? inputs_ | mask : inputs_ & ~mask;
  if (awaits_end(entries_[input])) {
    send_if_asserted(input);
  } else if (rises && !(entries_[input] & kMasked)) {  // an edge on a masked input is lost (82093AA, "Interrupt Mask")
    send(input);
  }
}

void IoApic::end_of_interrupt(std::uint8_t vector) {
  for (unsigned input = 0; input < kInputCount; ++input) {
    std::uint64_t& entry = entries_[input];
    if (!(entry & kRemoteIrr) || static_cast<std::uint8_t>(entry) != vector) continue;
    entry &= ~kRemoteIrr;
    send_if_asserted(input);
  }
  level_messages_changed();
}

void IoApic::send_if_asserted(unsigned input) {
  std::uint64_t& entry = entries_[input];
  if (!awaits_end(entry) || (entry & (kMasked | kRemoteIrr)) || !(inputs_ & 1u << input)) return;
  entry |= kRemoteIrr;
  send(input);
}

void IoApic::send(unsigned input) {
  // ExtINT asks the processor to fetch a vector from the PIC. Here the PIC has its own way to the processor, LINT0.
  if (delivery_mode(entries_[input]) == DeliveryMode::ExtInt) return;
  sink_.send(message_of(entries_[input]));
}

std::span<const MmioRange> IoApic::mmio_ranges() const {
  static constexpr std::array<MmioRange, 1> kRanges{{{kBase, 0x1000}}};
  return kRanges;
}

std::uint64_t IoApic::read_mmio(std::size_t, std::uint64_t offset, unsigned size) {
  std::uint32_t value = 0;
  if ((offset & ~3u) == kSelectRegister) value = selected_register_;
  if ((offset & ~3u) == kWindow) value = read_register();
  value >>= 8 * (offset & 3);
  return size >= 4 ? value : value & ((1u << 8 * size) - 1);
}

// Software writes whole registers; of anything else only what begins at a register means something.
void IoApic::write_mmio(std::size_t, std::uint64_t offset, unsigned size, std::uint64_t value) {
  if (offset == kSelectRegister) selected_register_ = static_cast<std::uint8_t>(value);
  if (offset == kWindow && size >= 4) write_register(static_cast<std::uint32_t>(value));
  if (offset == kEndOfInterrupt) end_of_interrupt(static_cast<std::uint8_t>(value));
}

std::uint32_t IoApic::read_register() const {
  if (selected_register_ == kIdentification || selected_register_ == kArbitration) {
    return static_cast<std::uint32_t>(identifier_) << 24;
  }
  if (selected_register_ == kVersion) return kVersionValue;
  const unsigned input = (selected_register_ - kFirstEntry) / 2u;
  if (selected_register_ < kFirstEntry || input >= kInputCount) return 0;
  return static_cast<std::uint32_t>(entries_[input] >> (selected_register_ & 1 ? 32 : 0));
}

void IoApic::write_register(std::uint32_t value) {
  if (selected_register_ == kIdentification) identifier_ = value >> 24 & 0x0f;
  const unsigned input = (selected_register_ - kFirstEntry) / 2u;
  if (selected_register_ < kFirstEntry || input >= kInputCount) return;
  const std::uint64_t entry = entries_[input];
  if (selected_register_ & 1) {
    write_entry(input, (entry & 0xffff'ffff) | std::uint64_t{value} << 32);
  } else {
    write_entry(input, (entry & ~std::uint64_t{0xffff'ffff}) | value);
  }
}

void IoApic::write_entry(unsigned input, std::uint64_t value) {
  std::uint64_t& entry = entries_[input];
  entry = (value & kWritable) | (entry & kRemoteIrr);
  // An interrupt that is no longer level-triggered has no end: this is how software drops a remote IRR that got stuck.
  if (!awaits_end(entry)) entry &= ~kRemoteIrr;
  // First the listener, so that the end of what is sent now is reported.
  level_messages_changed();
  send_if_asserted(input);
}

void IoApic::level_messages_changed() {
  std::vector<InterruptMessage> messages;
  for (std::uint64_t entry : entries_) {
    if (!awaits_end(entry) || ((entry & kMasked) && !(entry & kRemoteIrr))) continue;
    const InterruptMessage message = message_of(entry);
    if (std::ranges::find(messages, message) == messages.end()) messages.push_back(message);
  }
  if (messages == level_messages_) return;
  level_messages_ = std::move(messages);
  tell_level_messages();
}

void IoApic::tell_level_messages() { listener_.set_level_messages(level_messages_); }

void IoApic::reset() {
  selected_register_ = 0;
  identifier_ = 0;
  inputs_ = 0;
  entries_.fill(kResetEntry);
  level_messages_changed();
}

state::SavedUnit IoApic::save() const {
  state::SavedUnit saved(1);
  state::SavedList entries;
  for (std::uint64_t entry : entries_) {
    state::SavedUnit element(1);
    element.number("redirection", entry);
    entries.push_back(std::move(element));
  }
  saved.number("selected_register", selected_register_)
      .number("identifier", identifier_)
      .number("inputs", inputs_)
      .list("entries", std::move(entries));
  return saved;
}

Result<> IoApic::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, name(), 1);
  const auto selected_register = static_cast<std::uint8_t>(reader.number("selected_register", 0xff));
  const auto identifier = static_cast<std::uint8_t>(reader.number("identifier", 0x0f));
  const auto inputs = static_cast<std::uint32_t>(reader.number("inputs", (1u << kInputCount) - 1));
  const auto saved_entries = reader.list("entries", kInputCount);
  if (auto ok = reader.finish(); !ok) return ok;
  std::array<std::uint64_t, kInputCount> entries;
  for (unsigned input = 0; input < kInputCount; ++input) {
    state::SavedReader entry_reader(saved_entries[input], fmt::format("ioapic's input {}", input), 1);
    const std::uint64_t entry = entry_reader.number("redirection");
    if (auto ok = entry_reader.finish(); !ok) return ok;
    if ((entry & ~(kWritable | kRemoteIrr)) || ((entry & kRemoteIrr) && !awaits_end(entry))) {
      return fail(fmt::format("saved state of ioapic: input {} has the entry {:#x}, which cannot be", input, entry));
    }
    entries[input] = entry;
  }
  selected_register_ = selected_register;
  identifier_ = identifier;
  inputs_ = inputs;
  entries_ = entries;
  level_messages_changed();
  return {};
}

void IoApic::inspect(state::Inspection& node) const {
  node.value("identifier", std::uint64_t{identifier_}).value("inputs", std::uint64_t{inputs_});
  for (unsigned input = 0; input < kInputCount; ++input) {
    if (entries_[input] == kResetEntry) continue;
    node.child(fmt::format("input{}", input)).value("redirection", entries_[input]);
  }
}

}  // namespace bulkhead::vdev
