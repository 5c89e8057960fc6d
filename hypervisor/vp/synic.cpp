// SPDX-License-Identifier: Apache-2.0
//
// A VP's SynIC and the partition's memory and interrupts. Its pages are written into the guest's own memory, as the hypercall page
// is; where the guest has none that is writable, the page is as good as switched off.
#include <bit>
#include <cstring>

#include "hypervisor/machine.hpp"
#include "hypervisor/vp/virtual_processor.hpp"

namespace bulkhead::hypervisor {

VirtualProcessor::MsrResult VirtualProcessor::write_synic(std::uint32_t msr, std::uint64_t value, bool by_guest) {
  changed_ = true;  // a slot may be free now
  auto guarded = partition_.lock();
  const auto message_page = synic_.message_page(), event_flags_page = synic_.event_flags_page();
  if (!synic_.write(msr, value)) return MsrResult::Fault;
  // What the guest has left in a page must not look like messages and events. A parent sets what a guest has had already.
  const auto clear_if_new = [=, this](const std::optional<GuestPage>& before, const std::optional<GuestPage>& after) {
    std::byte* page = by_guest && after && after != before ? partition_.page_to_write(*after) : nullptr;
    if (page) std::memset(page, 0, kPageSize);
  };
  clear_if_new(message_page, synic_.message_page());
  clear_if_new(event_flags_page, synic_.event_flags_page());
  return MsrResult::Done;
}

std::byte* VirtualProcessor::synic_page(const std::optional<GuestPage>& place) const {
  return place ? partition_.page_to_write(*place) : nullptr;
}

VirtualProcessor::SynicResult VirtualProcessor::post_message(unsigned sint, const abi::SynicMessage& message) {
  std::byte* page = synic_page(synic_.message_page());
  if (!page) return {HV_STATUS_INVALID_SYNIC_STATE};
  if (!synic_page::put_message(page, sint, message)) return {HV_STATUS_INSUFFICIENT_BUFFERS};
  return {HV_STATUS_SUCCESS, synic_.vector(sint)};
}

VirtualProcessor::SynicResult VirtualProcessor::post_from_parent(unsigned sint, const abi::SynicMessage& message) {
  const auto bit = static_cast<std::uint16_t>(1u << sint);
  // Before the slot is looked at: who frees it afterwards finds that somebody waits.
  waiting_sints_.fetch_or(bit);
  const SynicResult result = post_message(sint, message);
  if (result.status == HV_STATUS_SUCCESS) waiting_sints_.fetch_and(static_cast<std::uint16_t>(~bit));
  return result;
}

VirtualProcessor::SynicResult VirtualProcessor::signal_event(unsigned sint, std::uint16_t flag) {
  std::byte* page = synic_page(synic_.event_flags_page());
  if (!page) return {HV_STATUS_INVALID_SYNIC_STATE};
  if (!synic_page::set_flag(page, sint, flag)) return {HV_STATUS_SUCCESS};
  return {HV_STATUS_SUCCESS, synic_.vector(sint), true};
}

/// Those for which a message of the parent waits and whose slot is free: they are told to it, once.
std::uint16_t VirtualProcessor::take_deliverable_sints() {
  const std::optional<GuestPage> place = synic_.message_page();
  const std::byte* page = place ? partition_.page_at(*place) : nullptr;
  std::uint16_t deliverable = 0;
  if (!page) return 0;
  for (unsigned waiting = waiting_sints_.load(); waiting; waiting &= waiting - 1) {
    const auto sint = static_cast<unsigned>(std::countr_zero(waiting));
    if (synic_page::is_free(page, sint)) deliverable |= static_cast<std::uint16_t>(1u << sint);
  }
  waiting_sints_.fetch_and(static_cast<std::uint16_t>(~deliverable));
  return deliverable;
}

}  // namespace bulkhead::hypervisor
