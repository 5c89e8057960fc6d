// SPDX-License-Identifier: Apache-2.0
#include "vsp/storage/logical_unit.hpp"

#include <algorithm>
#include <iterator>

namespace bulkhead::vsp::storage {
namespace {

using scsi::Opcode;

/// Guests' drivers go by this name: Linux's storvsc lets WRITE SAME through only for it.
constexpr std::string_view kVendor = "Msft    ";
constexpr std::string_view kRevision = "1.0 ";

constexpr std::uint8_t kSupportedPages = 0x00;
constexpr std::uint8_t kUnitSerialNumber = 0x80;
constexpr std::uint8_t kDeviceIdentification = 0x83;
constexpr std::size_t kMaximumAttentions = 8;

template <std::size_t size>
void put_text(std::array<char, size>& field, std::string_view text) {
  field.fill(' ');
  std::ranges::copy(text.substr(0, size), field.begin());
}

/// Commands that are carried out although a unit attention waits, SPC-4 5.14.
bool ignores_attention(Opcode opcode) {
  return opcode == Opcode::Inquiry || opcode == Opcode::RequestSense || opcode == Opcode::GetEventStatusNotification;
}

}  // namespace

disk::Task<ScsiResult> LogicalUnit::execute(const ScsiCommand& command) {
  if (!attentions_.empty() && !ignores_attention(command.opcode())) {
    const scsi::Sense attention = attentions_.front();
    attentions_.erase(attentions_.begin());
    co_return ScsiResult::failed(attention);
  }
  switch (command.opcode()) {
    case Opcode::Inquiry: co_return inquiry(command);
    case Opcode::RequestSense: co_return request_sense(command);
    case Opcode::PersistentReserveIn: co_return reservations_.reserve_in(command);
    case Opcode::PersistentReserveOut: co_return reservations_.reserve_out(command);
    default: co_return co_await perform(command);
  }
}

void LogicalUnit::raise(scsi::Sense attention) {
  if (std::ranges::find(attentions_, attention) == attentions_.end() && attentions_.size() < kMaximumAttentions) {
    attentions_.push_back(attention);
  }
}

void LogicalUnit::bus_reset() {
  on_reset();
  raise(scsi::sense::kBusDeviceReset);
}

void LogicalUnit::power_on() {
  attentions_.clear();
  reservations_.clear();
  on_reset();
}

ScsiResult LogicalUnit::inquiry(const ScsiCommand& command) const {
  const auto allocation = command.number<std::uint16_t>(3);
  const std::uint8_t page = command.cdb[2];
  if ((command.cdb[1] & 1) != 0) {
    auto body = vital_product_data(page);
    if (body.empty()) return ScsiResult::failed(scsi::sense::kInvalidFieldInCdb);
    std::vector<std::uint8_t> data = {description_.device_type, page};
    append(data, scsi::Big16(static_cast<std::uint16_t>(body.size())));
    data.insert(data.end(), body.begin(), body.end());
    return answer(command, data, allocation);
  }
  if (page != 0) return ScsiResult::failed(scsi::sense::kInvalidFieldInCdb);
  scsi::InquiryData data;
  data.peripheral = description_.device_type;
  data.removable = description_.removable ? 0x80 : 0;
  put_text(data.vendor, kVendor);
  put_text(data.product, description_.product);
  put_text(data.revision, kRevision);
  return answer(command, wire_bytes(data), allocation);
}

ScsiResult inquire_absent(const ScsiCommand& command) {
  if ((command.cdb[1] & 1) != 0 || command.cdb[2] != 0) return ScsiResult::failed(scsi::sense::kInvalidFieldInCdb);
  scsi::InquiryData data;
  data.peripheral = scsi::kNoUnit;
  data.queuing = 0;
  put_text(data.vendor, "");
  put_text(data.product, "");
  put_text(data.revision, "");
  return answer(command, wire_bytes(data), command.number<std::uint16_t>(3));
}

ScsiResult LogicalUnit::request_sense(const ScsiCommand& command) {
  if ((command.cdb[1] & 1) != 0) return ScsiResult::failed(scsi::sense::kInvalidFieldInCdb);  // descriptor format
  scsi::Sense sense = scsi::sense::kNone;
  if (!attentions_.empty()) {
    sense = attentions_.front();
    attentions_.erase(attentions_.begin());
  }
  return answer(command, wire_bytes(scsi::fixed(sense)), command.cdb[4]);
}

std::vector<std::uint8_t> LogicalUnit::vital_product_data(std::uint8_t page) const {
  if (page == kSupportedPages) {
    std::vector<std::uint8_t> pages = {kSupportedPages, kUnitSerialNumber, kDeviceIdentification};
    pages.insert(pages.end(), more_pages().begin(), more_pages().end());
    return pages;
  }
  if (page == kUnitSerialNumber) {
    const std::string serial = serial_number();
    return {serial.begin(), serial.end()};
  }
  if (page == kDeviceIdentification) return device_identification();
  return {};
}

std::string LogicalUnit::serial_number() const {
  std::string text = description_.identity.text();
  std::erase(text, '-');
  return text;
}

/// Two designators of the unit: one that begins with the vendor, and one of the locally assigned kind (NAA 3).
std::vector<std::uint8_t> LogicalUnit::device_identification() const {
  const std::string serial = serial_number();
  std::vector<std::uint8_t> data;
  append(data, std::array<std::uint8_t, 4>{0x02, 0x01, 0, static_cast<std::uint8_t>(kVendor.size() + serial.size())});
  std::ranges::copy(kVendor, std::back_inserter(data));
  std::ranges::copy(serial, std::back_inserter(data));
  std::array<std::uint8_t, 8> assigned{};
  const auto identity = description_.identity.big_endian();
  std::copy_n(identity.begin(), assigned.size(), assigned.begin());
  assigned[0] = static_cast<std::uint8_t>(0x30 | (assigned[0] & 0x0f));
  append(data, std::array<std::uint8_t, 4>{0x01, 0x03, 0, assigned.size()});
  append(data, assigned);
  return data;
}

state::SavedUnit LogicalUnit::save() const {
  state::SavedUnit unit(1);
  std::vector<std::uint8_t> attentions;
  for (const auto& attention : attentions_) {
    attentions.push_back(static_cast<std::uint8_t>(attention.key));
    append(attentions, scsi::Big16(attention.code));
  }
  unit.bytes("attentions", attentions);
  reservations_.save(unit);
  on_save(unit);
  return unit;
}

Result<> LogicalUnit::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, "logical unit", 1);
  const auto bytes = reader.bytes_up_to("attentions", kMaximumAttentions * 3);
  if (bytes.size() % 3 != 0) return fail("saved state of a logical unit: unit attentions that cannot be");
  std::vector<scsi::Sense> attentions;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    attentions.push_back({scsi::SenseKey{bytes[at]}, static_cast<std::uint16_t>(bytes[at + 1] << 8 | bytes[at + 2])});
  }
  reservations_.restore(reader);
  on_restore(reader);
  if (auto read = reader.finish(); !read) return read;
  attentions_ = std::move(attentions);
  return {};
}

void LogicalUnit::inspect(state::Inspection& node) const {
  node.value("image", name());
  node.value("identity", description_.identity.text());
  node.value("attentions", std::uint64_t{attentions_.size()});
  reservations_.inspect(node);
  on_inspect(node);
}

}  // namespace bulkhead::vsp::storage
