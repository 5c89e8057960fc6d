// SPDX-License-Identifier: Apache-2.0
#include "vsp/storage/storage_target.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace bulkhead::vsp::storage {

using abi::storage::Operation;
using abi::storage::SrbStatus;
using NtStatus = abi::storage::Status;

Result<> StorageTarget::attach(Address address, std::unique_ptr<LogicalUnit> unit, Limits limits) {
  if (slots_.contains(address)) return fail(fmt::format("there is a disk at number {} already", address.lun));
  Slot& slot = slots_[address];
  slot.unit = std::move(unit);
  slot.limiter = Limiter(limits);
  return {};
}

Result<> StorageTarget::detach(Address address, std::function<void(Result<>)> gone) {
  const auto found = slots_.find(address);
  if (found == slots_.end() || found->second.gone) return fail(fmt::format("there is no disk {}", address.lun));
  found->second.gone = std::move(gone);
  abort_if(SrbStatus::InvalidLun, [&](const Request& request) {
    return request.operation() == Operation::ExecuteSrb && request.address == address;
  });
  leave_if_idle(address);
  return {};
}

void StorageTarget::leave_if_idle(Address address) {
  const auto found = slots_.find(address);
  if (found == slots_.end() || !found->second.gone || found->second.running > 0) return;
  // The unit lives in the task that closes it; its address is free at once.
  std::shared_ptr<LogicalUnit> unit = std::move(found->second.unit);
  auto gone = std::move(found->second.gone);
  slots_.erase(found);
  auto& closing = *unit;
  disk::start(closing.close(), [unit, gone](const Result<>& closed) { gone(closed); });
}

Result<> StorageTarget::set_limits(Address address, Limits limits) {
  const auto found = slots_.find(address);
  if (found == slots_.end() || found->second.gone) return fail(fmt::format("there is no disk {}", address.lun));
  found->second.limiter = Limiter(limits);
  admit_waiting(address);  // a timer that still runs finds nothing to do
  return {};
}

LogicalUnit* StorageTarget::find(Address address) const {
  const auto found = slots_.find(address);
  return found == slots_.end() || found->second.gone ? nullptr : found->second.unit.get();
}

std::vector<Address> StorageTarget::addresses() const {
  std::vector<Address> all;
  for (const auto& [address, slot] : slots_) {
    if (!slot.gone) all.push_back(address);
  }
  return all;
}

void StorageTarget::begin(std::unique_ptr<Request> request) {
  request->number = next_number_++;
  Request& begun = *requests_.emplace_back(std::move(request));
  if (begun.operation() == Operation::ExecuteSrb)
    execute(begun);
  else
    begin_reset(begun);
}

void StorageTarget::execute(Request& request) {
  const auto found = slots_.find(request.address);
  if (found != slots_.end() && !found->second.gone) return admit_or_wait(found->second, request);
  if (request.command.opcode() == scsi::Opcode::Inquiry) return answer(request, inquire_absent(request.command));
  if (request.command.opcode() == scsi::Opcode::ReportLuns) return answer(request, report_luns(request));
  answer(request, SrbStatus::InvalidLun, NtStatus::DeviceDoesNotExist);
}

/// What a limit counts: the bytes that the command moves, but not more than the guest has given memory for.
std::uint64_t StorageTarget::bytes_of(const Slot& slot, const Request& request) {
  return std::min<std::uint64_t>(slot.unit->bytes_moved(request.command), request.command.data_size);
}

void StorageTarget::admit_or_wait(Slot& slot, Request& request) {
  if (request.command.opcode() == scsi::Opcode::ReportLuns) return answer(request, report_luns(request));
  const std::uint64_t bytes = slot.limiter.limits_anything() ? bytes_of(slot, request) : 0;
  if (bytes == 0) return run(slot, request);
  request.stage = Request::Stage::Waiting;
  slot.waiting.push_back(&request);
  if (!slot.timer_runs) admit_waiting(request.address);
}

void StorageTarget::admit_waiting(Address address) {
  const auto found = slots_.find(address);
  if (found == slots_.end()) return;
  Slot& slot = found->second;
  while (!slot.waiting.empty()) {
    Request& first = *slot.waiting.front();
    const auto wait = slot.limiter.admit(host_.now(), bytes_of(slot, first));
    if (wait > Limiter::Nanoseconds(0)) {
      slot.timer_runs = true;
      host_.post_after(wait, [this, address, alive = std::weak_ptr<bool>(alive_)] {
        if (alive.expired()) return;
        if (const auto again = slots_.find(address); again != slots_.end()) again->second.timer_runs = false;
        admit_waiting(address);
      });
      return;
    }
    slot.waiting.pop_front();
    run(slot, first);
  }
}

void StorageTarget::run(Slot& slot, Request& request) {
  request.stage = Request::Stage::Running;
  ++slot.running;
  ++slot.commands;
  // A task that need not wait ends within this call, and the request and, if it leaves, the slot are gone.
  disk::start(slot.unit->execute(request.command),
              [this, &request](const ScsiResult& result) { ended(request, result); });
}

void StorageTarget::ended(Request& request, const ScsiResult& result) {
  const Address address = request.address;
  Slot& slot = slots_.find(address)->second;
  --slot.running;
  if (result.kind == ScsiResult::Kind::HostFull && !slot.gone) {
    park(slot, request, result);
  } else {
    if (!result.why.empty()) {
      ++slot.failures;
      slot.last_failure = result.why;
    }
    answer(request, result);
  }
  finish_resets();
  leave_if_idle(address);
}

void StorageTarget::park(Slot& slot, Request& request, const ScsiResult& result) {
  // A reset that came meanwhile wants it gone.
  const bool unwanted = std::ranges::any_of(resets_, [&](const Request* r) { return r->number > request.number; });
  if (unwanted) return answer(request, SrbStatus::BusReset, NtStatus::Cancelled);
  request.stage = Request::Stage::Parked;
  ++slot.failures;
  slot.last_failure = result.why;
  if (std::exchange(told_of_full_host_, true)) return;
  host_.host_is_full(slot.unit->name(), result.why);
}

void StorageTarget::retry_parked() {
  told_of_full_host_ = false;
  std::vector<Request*> again;
  for (const auto& request : requests_) {
    if (request->stage == Request::Stage::Parked) again.push_back(request.get());
  }
  for (Request* request : again) {
    // It was counted and let through already.
    const auto found = slots_.find(request->address);
    if (found != slots_.end())
      run(found->second, *request);
    else
      answer(*request, SrbStatus::InvalidLun, NtStatus::DeviceDoesNotExist);
  }
}

template <typename Condition>
void StorageTarget::abort_if(SrbStatus status, Condition condition) {
  std::vector<Request*> ending;
  for (const auto& request : requests_) {
    const bool ours = request->stage == Request::Stage::Waiting || request->stage == Request::Stage::Parked;
    if (ours && request->operation() == Operation::ExecuteSrb && condition(*request)) ending.push_back(request.get());
  }
  for (Request* request : ending) {
    if (const auto slot = slots_.find(request->address); slot != slots_.end()) {
      std::erase(slot->second.waiting, request);
    }
    answer(*request, status, status == SrbStatus::InvalidLun ? NtStatus::DeviceDoesNotExist : NtStatus::Cancelled);
  }
}

void StorageTarget::abort(abi::vmbus::ChannelId channel) {
  abort_if(SrbStatus::Aborted, [&](const Request& request) { return request.channel == channel; });
  finish_resets();
}

void StorageTarget::begin_reset(Request& reset) {
  const bool one = reset.operation() == Operation::ResetLun;
  abort_if(SrbStatus::BusReset, [&](const Request& request) {
    return request.number < reset.number && (!one || request.address == reset.address);
  });
  reset.stage = Request::Stage::Running;
  resets_.push_back(&reset);
  finish_resets();
}

void StorageTarget::finish_resets() {
  const auto is_done = [&](const Request* reset) {
    const bool one = reset->operation() == Operation::ResetLun;
    return std::ranges::none_of(requests_, [&](const auto& request) {
      return request->operation() == Operation::ExecuteSrb && request->number < reset->number &&
             (!one || request->address == reset->address);
    });
  };
  for (auto at = std::ranges::find_if(resets_, is_done); at != resets_.end();
       at = std::ranges::find_if(resets_, is_done)) {
    Request& reset = **at;
    resets_.erase(at);
    for (auto& [address, slot] : slots_) {
      const bool concerned = reset.operation() != Operation::ResetLun || address == reset.address;
      if (concerned && slot.unit) slot.unit->bus_reset();
    }
    reset.wire.header.status = NtStatus::Success;
    finish(reset);
  }
}

void StorageTarget::drain() {
  for (auto& [address, slot] : slots_) {
    while (!slot.waiting.empty()) {
      Request& first = *slot.waiting.front();
      slot.waiting.pop_front();
      run(slot, first);
    }
  }
  const auto runs = [](const auto& entry) { return entry.second.running > 0; };
  while (std::ranges::any_of(slots_, runs)) host_.wait_for_progress();
}

void StorageTarget::power_on() {
  abort_if(SrbStatus::Aborted, [](const Request&) { return true; });
  finish_resets();
  told_of_full_host_ = false;
  for (auto& [address, slot] : slots_) {
    if (slot.unit) slot.unit->power_on();
  }
}

ScsiResult StorageTarget::report_luns(const Request& request) const {
  constexpr std::uint8_t kWellKnownUnits = 1, kMaximumSelection = 2;
  const std::uint8_t selection = request.command.cdb[2];
  if (selection > kMaximumSelection) return ScsiResult::failed(scsi::sense::kInvalidFieldInCdb);
  std::vector<std::uint8_t> luns;
  for (const auto& [address, slot] : slots_) {
    const bool here = address.path == request.address.path && address.target == request.address.target;
    if (!here || slot.gone || selection == kWellKnownUnits) continue;
    append(luns, std::array<std::uint8_t, 8>{0, address.lun, 0, 0, 0, 0, 0, 0});
  }
  std::vector<std::uint8_t> data;
  append(data, scsi::Big32(static_cast<std::uint32_t>(luns.size())));
  append(data, scsi::Big32(0));
  data.insert(data.end(), luns.begin(), luns.end());
  return storage::answer(request.command, data, request.command.number<std::uint32_t>(6));
}

void StorageTarget::answer(Request& request, const ScsiResult& result) {
  switch (result.kind) {
    case ScsiResult::Kind::Good:
      request.wire.scsi.transfer_length = result.transferred;
      return answer(request, SrbStatus::Success, NtStatus::Success);
    case ScsiResult::Kind::Conflict:
      request.wire.scsi.transfer_length = 0;
      request.wire.scsi.scsi_status = static_cast<std::uint8_t>(scsi::Status::ReservationConflict);
      return answer(request, SrbStatus::Error, NtStatus::IoDeviceError);
    case ScsiResult::Kind::MalformedRequest:
      return answer(request, SrbStatus::InvalidRequest, NtStatus::InvalidDeviceRequest);
    case ScsiResult::Kind::Failed:
    case ScsiResult::Kind::HostFull: break;  // of a unit that leaves: it is not kept
  }
  const auto sense = scsi::fixed(result.kind == ScsiResult::Kind::HostFull ? scsi::sense::kWriteError : result.sense);
  auto& scsi = request.wire.scsi;
  const std::size_t room = std::min<std::size_t>(scsi.sense_length, sizeof scsi.payload);
  const std::size_t length = std::min(room, sizeof sense);
  std::ranges::fill(scsi.payload, std::uint8_t{0});
  std::memcpy(scsi.payload, &sense, length);
  scsi.transfer_length = 0;
  scsi.scsi_status = static_cast<std::uint8_t>(scsi::Status::CheckCondition);
  answer(request, SrbStatus::Error, NtStatus::IoDeviceError);
}

void StorageTarget::answer(Request& request, SrbStatus status, NtStatus nt_status) {
  auto& scsi = request.wire.scsi;
  const bool with_sense = scsi.scsi_status == static_cast<std::uint8_t>(scsi::Status::CheckCondition);
  scsi.srb_status = static_cast<std::uint8_t>(status);
  if (with_sense && scsi.sense_length > 0) {
    scsi.srb_status |= abi::storage::kAutosenseValid;
    scsi.sense_length = static_cast<std::uint8_t>(std::min<std::size_t>(scsi.sense_length, sizeof(scsi::FixedSense)));
  } else {
    scsi.sense_length = 0;
  }
  if (status != SrbStatus::Success) scsi.transfer_length = 0;
  request.wire.header.status = nt_status;
  finish(request);
}

void StorageTarget::finish(Request& request) {
  const auto found = std::ranges::find(requests_, &request, &std::unique_ptr<Request>::get);
  std::unique_ptr<Request> owned = std::move(*found);
  requests_.erase(found);
  owned->stage = Request::Stage::Finished;
  finished_(std::move(owned));
}

std::vector<const Request*> StorageTarget::parked() const {
  std::vector<const Request*> list;
  for (const auto& request : requests_) {
    if (request->stage == Request::Stage::Parked) list.push_back(request.get());
  }
  return list;
}

void StorageTarget::adopt_parked(std::unique_ptr<Request> request) {
  request->number = next_number_++;
  request->stage = Request::Stage::Parked;
  requests_.push_back(std::move(request));
}

state::SavedList StorageTarget::save_units() const {
  state::SavedList list;
  for (const auto& [address, slot] : slots_) {
    state::SavedUnit unit(1);
    unit.number("path", address.path);
    unit.number("target", address.target);
    unit.number("lun", address.lun);
    unit.list("unit", {slot.unit->save()});
    list.push_back(std::move(unit));
  }
  return list;
}

Result<> StorageTarget::restore_units(const state::SavedList& saved) {
  if (saved.size() != slots_.size()) return fail("saved state of storage: the machine has other disks");
  for (const auto& entry : saved) {
    state::SavedReader reader(entry, "storage unit", 1);
    const Address address{static_cast<std::uint8_t>(reader.number("path", UINT8_MAX)),
                          static_cast<std::uint8_t>(reader.number("target", UINT8_MAX)),
                          static_cast<std::uint8_t>(reader.number("lun", UINT8_MAX))};
    const auto units = reader.list("unit", 1);
    if (auto read = reader.finish(); !read) return read;
    LogicalUnit* unit = find(address);
    if (unit == nullptr) return fail(fmt::format("saved state of storage: the machine has no disk {}", address.lun));
    if (auto restored = unit->restore(units.front()); !restored) return restored;
  }
  return {};
}

void StorageTarget::inspect(state::Inspection& node) const {
  node.value("under-way", std::uint64_t{requests_.size()});
  for (const auto& [address, slot] : slots_) {
    auto& child = node.child(fmt::format("unit {}:{}:{}", address.path, address.target, address.lun));
    if (slot.unit) slot.unit->inspect(child);
    child.value("commands", slot.commands);
    child.value("running", std::uint64_t{slot.running});
    child.value("waiting", std::uint64_t{slot.waiting.size()});
    if (slot.failures > 0) {
      child.value("failures", slot.failures);
      child.value("last-failure", slot.last_failure);
    }
  }
}

}  // namespace bulkhead::vsp::storage
