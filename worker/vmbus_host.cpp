// SPDX-License-Identifier: Apache-2.0
#include "worker/vmbus_host.hpp"

namespace bulkhead::worker {
namespace {

std::uint16_t status_of(vmbus::Acceptance acceptance) {
  switch (acceptance) {
    case vmbus::Acceptance::Taken: return HV_STATUS_SUCCESS;
    case vmbus::Acceptance::NoSuchConnection: return HV_STATUS_INVALID_CONNECTION_ID;
    case vmbus::Acceptance::NoBuffers: break;
  }
  return HV_STATUS_INSUFFICIENT_BUFFERS;
}

}  // namespace

vmbus::PostStatus VmbusHost::post_message(abi::VpIndex vp, abi::Sint sint, const abi::SynicMessage& message) {
  if (partition_ == nullptr) return vmbus::PostStatus::Busy;
  switch (partition_->post_message(vp, sint, message)) {
    case engine::SynicStatus::Delivered: return vmbus::PostStatus::Delivered;
    case engine::SynicStatus::Busy: return vmbus::PostStatus::Busy;
    case engine::SynicStatus::Refused: break;
  }
  return vmbus::PostStatus::Refused;
}

void VmbusHost::signal_event(abi::VpIndex vp, abi::Sint sint, std::uint16_t flag) {
  if (partition_ != nullptr) partition_->signal_event(vp, sint, flag);
}

std::uint16_t VmbusHost::message_posted(abi::ConnectionId connection, abi::SynicMessageType type,
                                        std::span<const std::uint8_t> payload) {
  const Handover::Visit visit(*handover_);
  std::lock_guard lock(machine_lock_);
  return status_of(bus_.message_posted(connection, type, payload));
}

std::uint16_t VmbusHost::event_signaled(abi::ConnectionId connection, std::uint16_t flag) {
  const Handover::Visit visit(*handover_);
  std::lock_guard lock(machine_lock_);
  return status_of(bus_.event_signaled(connection, flag));
}

void VmbusHost::message_slot_freed(abi::VpIndex) {
  const Handover::Visit visit(*handover_);
  std::lock_guard lock(machine_lock_);
  bus_.slot_freed();
}

}  // namespace bulkhead::worker
