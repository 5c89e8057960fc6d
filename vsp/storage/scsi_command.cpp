// SPDX-License-Identifier: Apache-2.0
#include "vsp/storage/scsi_command.hpp"

namespace bulkhead::vsp::storage {

std::size_t ScsiCommand::copy_out(std::span<std::uint8_t> to) const {
  if (!writes()) return 0;
  std::size_t done = 0;
  for (const auto& piece : data) {
    const std::size_t count = std::min(piece.iov_len, to.size() - done);
    std::memcpy(to.data() + done, piece.iov_base, count);
    done += count;
  }
  return done;
}

std::size_t ScsiCommand::copy_in(std::span<const std::uint8_t> bytes) const {
  if (!reads()) return 0;
  std::size_t done = 0;
  for (const auto& piece : data) {
    const std::size_t count = std::min(piece.iov_len, bytes.size() - done);
    std::memcpy(piece.iov_base, bytes.data() + done, count);
    done += count;
  }
  return done;
}

ScsiResult answer(const ScsiCommand& command, std::span<const std::uint8_t> data, std::size_t allocation) {
  return ScsiResult::good(command.copy_in(data.first(std::min(data.size(), allocation))));
}

}  // namespace bulkhead::vsp::storage
