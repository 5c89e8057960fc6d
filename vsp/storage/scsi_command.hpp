// SPDX-License-Identifier: Apache-2.0
//
// One SCSI command on its way through a logical unit: the command descriptor block, the guest memory that goes with it,
// and what became of it.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "abi/storage.hpp"
#include "disk/buffers.hpp"
#include "vsp/storage/scsi.hpp"

namespace bulkhead::vsp::storage {

using Cdb = std::array<std::uint8_t, abi::storage::kMaximumCdbSize>;

struct ScsiCommand {
  Cdb cdb = {};
  abi::storage::DataDirection direction = abi::storage::DataDirection::None;
  /// The guest's memory, in pieces. It changes under our feet: what is to be trusted is copied out once.
  std::vector<iovec> data;
  std::uint32_t data_size = 0;

  scsi::Opcode opcode() const { return scsi::Opcode{cdb[0]}; }
  /// The number at `offset` of the command descriptor block.
  template <typename T>
  T number(std::size_t offset) const {
    disk::BigEndian<T> value;
    std::memcpy(&value, cdb.data() + offset, sizeof value);
    return value;
  }
  bool reads() const { return direction == abi::storage::DataDirection::FromDevice; }
  bool writes() const { return direction == abi::storage::DataDirection::ToDevice; }

  /// Copies the guest's data out, as much of `to` as there is. Gives how much.
  std::size_t copy_out(std::span<std::uint8_t> to) const;
  /// Copies `bytes` to the guest, as much as there is room. Gives how much.
  std::size_t copy_in(std::span<const std::uint8_t> bytes) const;
};

struct ScsiResult {
  /// What the guest is told. Unanswered: nothing; the host lacks what the command needs, and it is to be tried again.
  enum class Kind : std::uint8_t { Good, Failed, Conflict, MalformedRequest, HostFull };

  Kind kind = Kind::Good;
  scsi::Sense sense = {};
  std::uint32_t transferred = 0;  // bytes
  std::string why = {};           // of HostFull and of errors of the host

  static ScsiResult good(std::size_t transferred = 0) {
    return {.kind = Kind::Good, .transferred = static_cast<std::uint32_t>(transferred)};
  }
  static ScsiResult failed(scsi::Sense sense, std::string why = {}) {
    return {.kind = Kind::Failed, .sense = sense, .why = std::move(why)};
  }
  static ScsiResult conflict() { return {.kind = Kind::Conflict}; }
  /// The data buffer does not suit the command: no sense, for the device never saw it.
  static ScsiResult malformed() { return {.kind = Kind::MalformedRequest}; }
};

/// Answers with the bytes of `data`, of which the guest takes `allocation` at most.
ScsiResult answer(const ScsiCommand& command, std::span<const std::uint8_t> data, std::size_t allocation);

template <typename Layout>
std::span<const std::uint8_t> wire_bytes(const Layout& layout) {
  return {static_cast<const std::uint8_t*>(static_cast<const void*>(&layout)), sizeof layout};
}

/// Appends the bytes of a layout.
template <typename Layout>
void append(std::vector<std::uint8_t>& bytes, const Layout& layout) {
  const auto added = wire_bytes(layout);
  bytes.insert(bytes.end(), added.begin(), added.end());
}

}  // namespace bulkhead::vsp::storage
