// SPDX-License-Identifier: Apache-2.0
#include "engine/synic_calls.hpp"

#include <array>
#include <cstring>
#include <utility>

namespace bulkhead::engine {

/// Copies the input of a call once, before anything in it is looked at.
template <typename Input>
std::uint16_t SynicCalls::read(std::uint64_t address, Input& input) const {
  if (address % 8 != 0 || address % HV_PAGE_SIZE > HV_PAGE_SIZE - sizeof input) return HV_STATUS_INVALID_ALIGNMENT;
  std::array<std::uint8_t, sizeof input> copy;
  if (memory_ == nullptr || !memory_->read(address, copy)) return HV_STATUS_INVALID_PARAMETER;
  std::memcpy(&input, copy.data(), sizeof input);
  return HV_STATUS_SUCCESS;
}

std::uint16_t SynicCalls::call(std::uint64_t control, std::uint64_t input) const {
  const bool fast = (control & HV_HYPERCALL_FAST) != 0;
  switch (static_cast<std::uint16_t>(control)) {
    case HV_CALL_POST_MESSAGE:
      // The input is larger than what registers hold.
      return fast ? std::uint16_t{HV_STATUS_INVALID_HYPERCALL_INPUT} : post_message(input);
    case HV_CALL_SIGNAL_EVENT: {
      std::uint64_t parameter = input;
      const std::uint16_t status = fast ? std::uint16_t{HV_STATUS_SUCCESS} : read(input, parameter);
      return status == HV_STATUS_SUCCESS ? signal_event(parameter) : status;
    }
    default: return HV_STATUS_INVALID_HYPERCALL_CODE;
  }
}

std::uint16_t SynicCalls::signal_event(std::uint64_t parameter) const {
  const auto connection = static_cast<std::uint32_t>(parameter);
  SynicListener* listener = listener_.load();
  if (listener == nullptr || (connection & ~abi::kConnectionIdMask) != 0) return HV_STATUS_INVALID_CONNECTION_ID;
  return listener->event_signaled(abi::ConnectionId{connection}, static_cast<std::uint16_t>(parameter >> 32));
}

std::uint16_t SynicCalls::post_message(std::uint64_t address) const {
  abi::PostMessageInput input;
  if (const std::uint16_t status = read(address, input); status != HV_STATUS_SUCCESS) return status;
  const std::uint32_t type = std::to_underlying(input.type);
  if (type == 0 || (type >> 31) != 0 || input.payload_size > abi::kMessagePayloadSize) {
    return HV_STATUS_INVALID_PARAMETER;
  }
  SynicListener* listener = listener_.load();
  if (listener == nullptr || (std::to_underlying(input.connection) & ~abi::kConnectionIdMask) != 0) {
    return HV_STATUS_INVALID_CONNECTION_ID;
  }
  return listener->message_posted(input.connection, input.type, std::span(input.payload).first(input.payload_size));
}

void SynicCalls::slot_freed(abi::VpIndex vp) const {
  if (SynicListener* listener = listener_.load()) listener->message_slot_freed(vp);
}

}  // namespace bulkhead::engine
