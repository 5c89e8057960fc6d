// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/synic/synic.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace bulkhead::hypervisor {
namespace {

constexpr std::uint64_t kVersion = 1;
/// The lowest vector that an interrupt can have.
constexpr std::uint8_t kFirstVector = 16;

}  // namespace

std::uint64_t Synic::read(std::uint32_t msr) const {
  switch (msr) {
    case abi::kMsrScontrol: return control_;
    case abi::kMsrSversion: return kVersion;
    case abi::kMsrSiefp: return event_flags_page_;
    case abi::kMsrSimp: return message_page_;
    case abi::kMsrEom: return 0;
    default: return sints_[msr - abi::kMsrSint0];
  }
}

bool Synic::write(std::uint32_t msr, std::uint64_t value) {
  switch (msr) {
    case abi::kMsrScontrol: control_ = value; return true;
    case abi::kMsrSversion: return false;
    case abi::kMsrSiefp: event_flags_page_ = value; return true;
    case abi::kMsrSimp: message_page_ = value; return true;
    case abi::kMsrEom: return true;
    default: break;
  }
  // Guests write the reset value back, which has no vector.
  if (static_cast<std::uint8_t>(value) < kFirstVector && !(value & abi::kSintMasked)) return false;
  sints_[msr - abi::kMsrSint0] = value;
  any_automatic_ = std::ranges::any_of(sints_, [](std::uint64_t sint) { return sint & abi::kSintAutoEoi; });
  return true;
}

bool Synic::ends_automatically_slow(std::uint8_t vector) const {
  return std::ranges::any_of(sints_, [vector](std::uint64_t sint) {
    return (sint & (abi::kSintAutoEoi | abi::kSintMasked)) == abi::kSintAutoEoi &&
           static_cast<std::uint8_t>(sint) == vector;
  });
}

bool synic_page::is_free(const std::byte* messages, unsigned sint) {
  auto* type = reinterpret_cast<const std::uint32_t*>(messages + sint * sizeof(abi::SynicMessage));
  return std::atomic_ref(*const_cast<std::uint32_t*>(type)).load(std::memory_order_acquire) == 0;
}

bool synic_page::put_message(std::byte* messages, unsigned sint, const abi::SynicMessage& message) {
  std::byte* slot = messages + sint * sizeof(abi::SynicMessage);
  if (!is_free(messages, sint)) {
    auto* flags = reinterpret_cast<std::uint8_t*>(slot + offsetof(abi::SynicMessage, flags));
    // The guest frees the slot, then looks at the flag; here the flag is set, and then the slot looked at. The locked
    // instruction, and the fence that the guest has to have in between, let at least one of both see the other.
    std::atomic_ref(*flags).fetch_or(abi::kMessagePending);
    if (!is_free(messages, sint)) return false;
  }
  constexpr std::size_t kAfterType = sizeof message.type;
  abi::SynicMessage copy = message;
  copy.flags = 0;
  std::memcpy(slot + kAfterType, reinterpret_cast<const std::byte*>(&copy) + kAfterType, sizeof copy - kAfterType);
  // The message is there before its type says so.
  std::atomic_ref(*reinterpret_cast<std::uint32_t*>(slot))
      .store(static_cast<std::uint32_t>(copy.type), std::memory_order_release);
  return true;
}

bool synic_page::set_flag(std::byte* flags, unsigned sint, std::uint16_t flag) {
  auto* words = reinterpret_cast<std::uint32_t*>(flags + sint * sizeof(abi::EventFlags));
  const std::uint32_t bit = 1u << flag % 32;
  return !(std::atomic_ref(words[flag / 32]).fetch_or(bit) & bit);
}

}  // namespace bulkhead::hypervisor
