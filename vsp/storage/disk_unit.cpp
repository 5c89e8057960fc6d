// SPDX-License-Identifier: Apache-2.0
//
// The commands of a disk. What INQUIRY says of it is in disk_unit_pages.cpp.
#include "vsp/storage/disk_unit.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "disk/operation/change.hpp"

namespace bulkhead::vsp::storage {
namespace {

using scsi::Opcode;
namespace sense = scsi::sense;

/// FUA, and the bits that ask for protection information, which no disk here has.
constexpr std::uint8_t kForceUnitAccess = 0x08;
constexpr std::uint8_t kProtect = 0xe0;

constexpr std::uint8_t kReadCapacity16 = 0x10;
constexpr std::size_t kUnmapHeaderSize = 8;
constexpr std::size_t kUnmapDescriptorSize = 16;

bool has_medium_access(Opcode opcode) {
  switch (opcode) {
    case Opcode::TestUnitReady:
    case Opcode::Read6:
    case Opcode::Read10:
    case Opcode::Read12:
    case Opcode::Read16:
    case Opcode::Write6:
    case Opcode::Write10:
    case Opcode::Write12:
    case Opcode::Write16:
    case Opcode::Verify10:
    case Opcode::Verify16:
    case Opcode::WriteSame10:
    case Opcode::WriteSame16:
    case Opcode::Unmap:
    case Opcode::SynchronizeCache10:
    case Opcode::SynchronizeCache16:
    case Opcode::ReadCapacity10:
    case Opcode::ServiceActionIn16: return true;
    default: return false;
  }
}

bool is_zero(std::span<const std::uint8_t> bytes) {
  return std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == 0; });
}

}  // namespace

DiskUnit::DiskUnit(std::unique_ptr<disk::Disk> disk, disk::Guid identity, bool read_only)
    : LogicalUnit(
          {.device_type = scsi::kDirectAccess, .removable = false, .product = "Virtual Disk", .identity = identity}),
      disk_(std::move(disk)),
      write_protected_(read_only || !disk_->properties().writable) {}

disk::Task<Result<>> DiskUnit::close() { return disk_->close(); }

disk::Task<Result<>> DiskUnit::grow(std::uint64_t size) {
  if (write_protected_) co_return fail(fmt::format("'{}' is read-only", name()));
  const std::uint64_t now = disk_->properties().size;
  if (size < now) {
    co_return fail(fmt::format("'{}' has {} bytes, and a disk that a guest uses cannot lose any", name(), now));
  }
  if (size % block_size() != 0) {
    co_return fail(fmt::format("a disk of {} bytes does not end with a block of {}", size, block_size()));
  }
  co_return co_await disk::resize_disk(*disk_, size);
}

bool DiskUnit::holds(Extent extent) const {
  return extent.first <= block_count() && extent.count <= block_count() - extent.first;
}

ScsiResult DiskUnit::host_failed(const Error& error, scsi::Sense sense) {
  if (error.number() == ENOSPC || error.number() == EDQUOT) {
    return {.kind = ScsiResult::Kind::HostFull, .why = error.message()};
  }
  return ScsiResult::failed(sense, error.message());
}

namespace {

struct Blocks {
  std::uint64_t first;
  std::uint64_t count;
};

/// Where the command descriptor blocks of 6, 10, 12 and 16 bytes have their block number and count.
Blocks blocks_of(const ScsiCommand& command) {
  switch (command.opcode()) {
    case Opcode::Read6:
    case Opcode::Write6:
      return {command.number<std::uint32_t>(0) & 0x1f'ffff, command.cdb[4] == 0 ? 256u : command.cdb[4]};
    case Opcode::Read12:
    case Opcode::Write12: return {command.number<std::uint32_t>(2), command.number<std::uint32_t>(6)};
    case Opcode::Read16:
    case Opcode::Write16:
    case Opcode::Verify16:
    case Opcode::WriteSame16:
    case Opcode::SynchronizeCache16: return {command.number<std::uint64_t>(2), command.number<std::uint32_t>(10)};
    default: return {command.number<std::uint32_t>(2), command.number<std::uint16_t>(7)};
  }
}

}  // namespace

std::uint64_t DiskUnit::bytes_moved(const ScsiCommand& command) const {
  switch (command.opcode()) {
    case Opcode::Read6:
    case Opcode::Read10:
    case Opcode::Read12:
    case Opcode::Read16:
    case Opcode::Write6:
    case Opcode::Write10:
    case Opcode::Write12:
    case Opcode::Write16: return blocks_of(command).count * block_size();
    default: return 0;
  }
}

disk::Task<ScsiResult> DiskUnit::perform(const ScsiCommand& command) {
  const Opcode opcode = command.opcode();
  if (stopped_ && has_medium_access(opcode)) co_return ScsiResult::failed(sense::kInitializingCommandRequired);
  const auto [first, count] = blocks_of(command);
  const Extent extent{first, count};
  const bool six = opcode == Opcode::Read6 || opcode == Opcode::Write6;
  const Forced forced = !six && (command.cdb[1] & kForceUnitAccess) != 0 ? Forced::Yes : Forced::No;
  switch (opcode) {
    case Opcode::TestUnitReady: co_return ScsiResult::good();
    case Opcode::Read6:
    case Opcode::Read10:
    case Opcode::Read12:
    case Opcode::Read16: co_return co_await read(command, extent);
    case Opcode::Write6:
    case Opcode::Write10:
    case Opcode::Write12:
    case Opcode::Write16: co_return co_await write(command, extent, forced);
    case Opcode::Verify10:
    case Opcode::Verify16: co_return verify(command, extent);
    case Opcode::SynchronizeCache10:
    case Opcode::SynchronizeCache16:
      if (!holds(extent)) co_return ScsiResult::failed(sense::kAddressOutOfRange);
      co_return co_await flush();
    case Opcode::Unmap: co_return co_await unmap(command);
    case Opcode::WriteSame10:
    case Opcode::WriteSame16: co_return co_await write_same(command, extent);
    case Opcode::StartStopUnit: co_return co_await start_stop(command);
    case Opcode::ReadCapacity10: co_return read_capacity_10(command);
    case Opcode::ServiceActionIn16: co_return service_action_in(command);
    case Opcode::ModeSense6:
    case Opcode::ModeSense10: co_return modes(command);
    default: co_return ScsiResult::failed(sense::kInvalidOperationCode);
  }
}

disk::Task<ScsiResult> DiskUnit::read(const ScsiCommand& command, Extent extent) {
  if (command.opcode() != Opcode::Read6 && (command.cdb[1] & kProtect) != 0) {
    co_return ScsiResult::failed(sense::kInvalidFieldInCdb);
  }
  if (!holds(extent)) co_return ScsiResult::failed(sense::kAddressOutOfRange);
  const std::uint64_t size = extent.count * block_size();
  if (size == 0) co_return ScsiResult::good();
  if (!command.reads() || size > command.data_size) co_return ScsiResult::malformed();
  Result<> done;
  if (size == command.data_size) {
    done = co_await disk_->read(extent.first * block_size(), command.data);
  } else {
    const auto window = disk::slice(command.data, 0, size);
    done = co_await disk_->read(extent.first * block_size(), window);
  }
  if (!done) co_return ScsiResult::failed(sense::kUnrecoveredReadError, done.error().message());
  co_return ScsiResult::good(size);
}

disk::Task<ScsiResult> DiskUnit::write(const ScsiCommand& command, Extent extent, Forced forced) {
  if (command.opcode() != Opcode::Write6 && (command.cdb[1] & kProtect) != 0) {
    co_return ScsiResult::failed(sense::kInvalidFieldInCdb);
  }
  if (write_protected_) co_return ScsiResult::failed(sense::kWriteProtected);
  if (!holds(extent)) co_return ScsiResult::failed(sense::kAddressOutOfRange);
  const std::uint64_t size = extent.count * block_size();
  if (size == 0) co_return ScsiResult::good();
  if (!command.writes() || size > command.data_size) co_return ScsiResult::malformed();
  Result<> done;
  if (size == command.data_size) {
    done = co_await disk_->write(extent.first * block_size(), command.data);
  } else {
    const auto window = disk::slice(command.data, 0, size);
    done = co_await disk_->write(extent.first * block_size(), window);
  }
  if (done && forced == Forced::Yes) done = co_await disk_->flush();
  if (!done) co_return host_failed(done.error(), sense::kWriteError);
  co_return ScsiResult::good(size);
}

disk::Task<ScsiResult> DiskUnit::flush() {
  if (write_protected_) co_return ScsiResult::good();
  auto done = co_await disk_->flush();
  if (!done) co_return host_failed(done.error(), sense::kWriteError);
  co_return ScsiResult::good();
}

ScsiResult DiskUnit::verify(const ScsiCommand& command, Extent extent) const {
  constexpr std::uint8_t kCompareBytes = 0x06;
  if ((command.cdb[1] & (kProtect | kCompareBytes)) != 0) return ScsiResult::failed(sense::kInvalidFieldInCdb);
  // The host's disk verifies itself; what is left is whether there are such blocks.
  return holds(extent) ? ScsiResult::good() : ScsiResult::failed(sense::kAddressOutOfRange);
}

disk::Task<ScsiResult> DiskUnit::unmap(const ScsiCommand& command) {
  if ((command.cdb[1] & 1) != 0) co_return ScsiResult::failed(sense::kInvalidFieldInCdb);  // ANCHOR
  if (write_protected_) co_return ScsiResult::failed(sense::kWriteProtected);
  const auto length = command.number<std::uint16_t>(7);
  if (length == 0) co_return ScsiResult::good();
  if (length < kUnmapHeaderSize) co_return ScsiResult::failed(sense::kParameterListLengthError);
  std::vector<std::uint8_t> list(length);
  if (command.copy_out(list) != list.size()) co_return ScsiResult::malformed();
  const std::size_t announced = static_cast<std::size_t>(list[2] << 8 | list[3]);
  const std::size_t descriptors = std::min(announced, list.size() - kUnmapHeaderSize) / kUnmapDescriptorSize;
  if (descriptors > kMaximumUnmapDescriptors) co_return ScsiResult::failed(sense::kInvalidFieldInParameterList);
  std::vector<Extent> extents;
  for (std::size_t index = 0; index < descriptors; ++index) {
    const std::uint8_t* at = list.data() + kUnmapHeaderSize + index * kUnmapDescriptorSize;
    scsi::Big64 first;
    scsi::Big32 count;
    std::memcpy(&first, at, sizeof first);
    std::memcpy(&count, at + sizeof first, sizeof count);
    extents.push_back({first, count});
    if (!holds(extents.back())) co_return ScsiResult::failed(sense::kAddressOutOfRange);
  }
  for (const auto& extent : extents) {
    if (extent.count == 0) continue;
    auto done = co_await disk_->discard(extent.first * block_size(), extent.count * block_size());
    if (!done) co_return host_failed(done.error(), sense::kWriteError);
  }
  co_return ScsiResult::good(length);
}

disk::Task<ScsiResult> DiskUnit::write_same(const ScsiCommand& command, Extent extent) {
  constexpr std::uint8_t kAnchor = 0x10, kNoData = 0x01, kObsolete = 0x06;
  const bool no_data = command.opcode() == Opcode::WriteSame16 && (command.cdb[1] & kNoData) != 0;
  if ((command.cdb[1] & (kProtect | kAnchor | kObsolete)) != 0) co_return ScsiResult::failed(sense::kInvalidFieldInCdb);
  if (write_protected_) co_return ScsiResult::failed(sense::kWriteProtected);
  // A count of 0 would mean "to the end": page B0 says that it is not taken (WSNZ).
  if (extent.count == 0 || extent.count * block_size() > kMaximumWriteSame) {
    co_return ScsiResult::failed(sense::kInvalidFieldInCdb);
  }
  if (!holds(extent)) co_return ScsiResult::failed(sense::kAddressOutOfRange);
  std::vector<std::uint8_t> block(block_size());
  if (!no_data && command.copy_out(block) != block.size()) co_return ScsiResult::malformed();
  const std::uint64_t offset = extent.first * block_size(), size = extent.count * block_size();
  const std::size_t transferred = no_data ? 0 : block.size();
  Result<> done;
  if (is_zero(block)) {
    done = co_await disk_->zero(offset, size);
  } else {
    // One block in memory, and a list that names it again and again.
    const std::size_t at_once = std::min<std::uint64_t>(extent.count, 256);
    const std::vector<iovec> pattern(at_once, iovec{block.data(), block.size()});
    for (std::uint64_t written = 0; done && written < size;) {
      const auto count = std::min<std::uint64_t>(at_once, (size - written) / block_size());
      done = co_await disk_->write(offset + written, disk::Buffers(pattern).first(count));
      written += count * block_size();
    }
  }
  if (!done) co_return host_failed(done.error(), sense::kWriteError);
  co_return ScsiResult::good(transferred);
}

disk::Task<ScsiResult> DiskUnit::start_stop(const ScsiCommand& command) {
  constexpr std::uint8_t kStart = 0x01, kLoadEject = 0x02, kNoFlush = 0x04, kPowerCondition = 0xf0;
  const std::uint8_t what = command.cdb[4];
  if ((what & kLoadEject) != 0) co_return ScsiResult::failed(sense::kInvalidFieldInCdb);
  if ((what & kPowerCondition) != 0) co_return ScsiResult::good();  // there are none to change between
  if ((what & kStart) != 0) {
    stopped_ = false;
    co_return ScsiResult::good();
  }
  if ((what & kNoFlush) == 0) {
    auto flushed = co_await flush();
    if (flushed.kind != ScsiResult::Kind::Good) co_return flushed;
  }
  stopped_ = true;
  co_return ScsiResult::good();
}

ScsiResult DiskUnit::read_capacity_10(const ScsiCommand& command) const {
  std::vector<std::uint8_t> data;
  append(data, scsi::Big32(static_cast<std::uint32_t>(std::min<std::uint64_t>(block_count() - 1, UINT32_MAX))));
  append(data, scsi::Big32(block_size()));
  return answer(command, data, data.size());
}

ScsiResult DiskUnit::service_action_in(const ScsiCommand& command) const {
  if ((command.cdb[1] & 0x1f) != kReadCapacity16) return ScsiResult::failed(sense::kInvalidFieldInCdb);
  const std::uint32_t ratio = std::max(1u, disk_->properties().physical_sector / block_size());
  std::vector<std::uint8_t> data;
  append(data, scsi::Big64(block_count() - 1));
  append(data, scsi::Big32(block_size()));
  // No protection; physical blocks per logical one as a power of two; provisioned thinly (LBPME).
  append(data, std::array<std::uint8_t, 4>{0, static_cast<std::uint8_t>(std::countr_zero(ratio)), 0x80, 0});
  data.resize(32);
  return answer(command, data, command.number<std::uint32_t>(10));
}

void DiskUnit::on_save(state::SavedUnit& unit) const { unit.number("stopped", stopped_); }
void DiskUnit::on_restore(state::SavedReader& reader) { stopped_ = reader.flag("stopped"); }
void DiskUnit::on_inspect(state::Inspection& node) const {
  node.value("bytes", disk_->properties().size);
  node.value("format", disk::name_of(disk_->properties().format));
  node.value("write-protected", write_protected_);
}

}  // namespace bulkhead::vsp::storage
