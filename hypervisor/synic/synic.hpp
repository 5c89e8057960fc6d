// SPDX-License-Identifier: Apache-2.0
//
// The synthetic interrupt controller of one virtual processor: TLFS, "Virtual Interrupt Controller".
//
//   message ──▶ slot of the SINT in the message page, if it is free ──┐
//   event   ──▶ flag of the SINT in the event flags page ─────────────┴──▶ vector of the SINT, unless it is masked ──▶ local APIC
//
// The pages are memory of the guest, which may place them anywhere and change them at any time; this room gets them as
// memory of one page, and reads nothing of them but whether a slot is free. The registers change only on the logical processor that
// owns the VP, with the partition's lock held: so the owner reads them without, others with it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "abi/synic.hpp"
#include "hypervisor/memory/frame.hpp"

namespace bulkhead::hypervisor {

class Synic {
 public:
  Synic() { sints_.fill(abi::kSintMasked); }

  static constexpr bool is_register(std::uint32_t msr) {
    return (msr >= abi::kMsrScontrol && msr <= abi::kMsrEom) ||
           (msr >= abi::kMsrSint0 && msr < abi::kMsrSint0 + abi::kSintCount);
  }

  std::uint64_t read(std::uint32_t msr) const;
  /// False: #GP, and nothing was written. EOM is written by the VP's owner for what it leads to; nothing is kept here.
  bool write(std::uint32_t msr, std::uint64_t value);

  /// Where messages and event flags go; nothing: they are switched off.
  std::optional<GuestPage> message_page() const { return page(message_page_); }
  std::optional<GuestPage> event_flags_page() const { return page(event_flags_page_); }

  /// What interrupts the processor for something of this SINT; nothing: the guest does not want that.
  std::optional<std::uint8_t> vector(unsigned sint) const {
    if (sints_[sint] & (abi::kSintMasked | abi::kSintPolling)) return std::nullopt;
    return static_cast<std::uint8_t>(sints_[sint]);
  }
  /// Whether an interrupt with this vector ends with its delivery.
  bool ends_automatically(std::uint8_t vector) const { return any_automatic_ && ends_automatically_slow(vector); }

 private:
  std::optional<GuestPage> page(std::uint64_t place) const {
    if (!(control_ & place & abi::kSynicEnable)) return std::nullopt;
    return GuestPage::at(place);
  }
  bool ends_automatically_slow(std::uint8_t vector) const;

  std::uint64_t control_ = 0;
  std::uint64_t event_flags_page_ = 0;
  std::uint64_t message_page_ = 0;
  std::array<std::uint64_t, abi::kSintCount> sints_;
  bool any_automatic_ = false;
};

/// The guest's memory in a page, as the functions below take it: other processors read and write it meanwhile.
namespace synic_page {

bool is_free(const std::byte* messages, unsigned sint);
/// False: the slot is full, and the guest will write EOM when it has freed it.
bool put_message(std::byte* messages, unsigned sint, const abi::SynicMessage& message);
/// False: the flag was set already.
bool set_flag(std::byte* flags, unsigned sint, std::uint16_t flag);

}  // namespace synic_page
}  // namespace bulkhead::hypervisor
