// SPDX-License-Identifier: Apache-2.0
//
// The emulator's accesses: from segment and offset to a linear address, to physical addresses, to memory or a device.
#include <cstring>

#include "engine/emulator/emulator.hpp"

namespace bulkhead::engine::emulator {
namespace {

constexpr std::uint8_t kStackFault = 12, kGeneralProtection = 13, kAlignmentFault = 17;
constexpr std::uint64_t kPageMask = 4095;

/// Whether an address is one that all unused upper bits of are copies of the highest used.
bool is_canonical(std::uint64_t linear, bool five_levels) {
  const unsigned unused = five_levels ? 7 : 16;
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(linear << unused) >> unused) == linear;
}

/// Outside of 64-bit mode: whether segment `number` allows the access by its type and limit.
bool is_allowed(const ProcessorState& state, unsigned number, std::uint64_t offset, unsigned size, bool write) {
  const abi::SegmentRegister& segment = state.segments[number];
  const unsigned type = segment.attributes & 0xf;
  const bool is_code = type & 8;
  if (!state.is_real_or_virtual_8086()) {
    if (!(segment.attributes & kSegmentPresent)) return false;
    const bool writable = !is_code && (type & 2), readable = !is_code || (type & 2);
    if (write ? !writable : !readable) return false;
  }
  const std::uint64_t last = offset + size - 1;
  const bool expands_down = !is_code && (type & 4) && !state.is_real_or_virtual_8086();
  if (!expands_down) return last <= segment.limit;
  const std::uint64_t end = (segment.attributes & kSegmentDefault) ? 0xffffffff : 0xffff;
  return offset > segment.limit && last <= end;
}

}  // namespace

bool Emulator::linear_address(unsigned segment, std::uint64_t offset, unsigned size, bool write,
                              std::uint64_t& linear) {
  const std::uint8_t vector = segment == kSs ? kStackFault : kGeneralProtection;
  if (state_->is_64_bit()) {
    linear = offset;
    if (segment == kFs || segment == kGs) linear += state_->segments[segment].base;
    const bool five_levels = state_->cr4 & kCr4La57;
    if (!is_canonical(linear, five_levels) || !is_canonical(linear + size - 1, five_levels)) return fault(vector, 0);
  } else {
    if (!is_allowed(*state_, segment, offset, size, write)) return fault(vector, 0);
    linear = (state_->segments[segment].base + offset) & 0xffffffff;
  }
  const bool checks_alignment = (state_->cr0 & kCr0AlignmentMask) && (state_->rflags & kAlignmentCheck) && size <= 8;
  if (checks_alignment && linear % size != 0 && state_->privilege_level() == 3) return fault(kAlignmentFault, 0);
  return true;
}

bool Emulator::physical_address(std::uint64_t linear, bool write, GuestPhysicalAddress& address) {
  if (hint_applies_ && ((linear ^ hint_.address) & kPageMask) == 0) {
    address = hint_.address;  // the processor has just translated it, with all rights checked
    return true;
  }
  const Translation translation =
      translate(*state_, memory_, linear, {.write = write, .user = state_->privilege_level() == 3}, written_);
  if (translation.outcome == Translation::Outcome::PageFault) return page_fault(linear, translation.error_code);
  if (translation.outcome != Translation::Outcome::Mapped) return unsupported();
  address = translation.address;
  return true;
}

bool Emulator::locate_operand(bool write, Location& location) {
  return locate(instruction_->segment, effective_offset(), instruction_->size, write, location);
}

bool Emulator::locate(unsigned segment, std::uint64_t offset, unsigned size, bool write, Location& location) {
  std::uint64_t linear = 0;
  if (!linear_address(segment, offset, size, write, linear)) return false;
  location.size = static_cast<std::uint8_t>(size);
  location.first_size = location.size;
  if (!physical_address(linear, write, location.address[0])) return false;
  const std::uint64_t in_page = kPageMask + 1 - (linear & kPageMask);
  if (in_page >= size) [[likely]]
    return true;
  location.first_size = static_cast<std::uint8_t>(in_page);
  std::uint64_t next = linear + in_page;
  if (!state_->is_64_bit()) next &= 0xffffffff;
  return physical_address(next, write, location.address[1]);
}

bool Emulator::take_recorded(std::uint64_t& value) {
  if (position_ == recorded_) return false;
  value = record_[position_++];
  return true;
}

void Emulator::record(std::uint64_t value) {
  // No instruction has more accesses than the record has room for; a caller that resumes what is over changes nothing.
  if (recorded_ < record_.size()) record_[recorded_++] = value;
}

/// Within one page, of 1, 2, 4 or 8 bytes if it is a device's.
bool Emulator::load_piece(GuestPhysicalAddress address, unsigned size, std::uint64_t& value) {
  if (take_recorded(value)) return true;
  if (const auto bytes = memory_.at(address, size)) {
    value = 0;
    std::memcpy(&value, bytes->data(), size);
    record(value);
    ++position_;
    return true;
  }
  touched_device_ = true;
  step_ = MemoryAccess{.address = address, .size = static_cast<std::uint8_t>(size), .write = false, .data = 0};
  return false;
}

bool Emulator::store_piece(GuestPhysicalAddress address, unsigned size, std::uint64_t value) {
  std::uint64_t done = 0;
  if (take_recorded(done)) return true;
  const MemoryRegion* region = memory_.find(address);
  if (region != nullptr && region->writable) {
    std::memcpy(region->bytes.data() + (address - region->base), &value, size);
    if (written_ != nullptr) written_->note(address);
    record(0);
    ++position_;
    return true;
  }
  touched_device_ = true;
  step_ = MemoryAccess{
      .address = address, .size = static_cast<std::uint8_t>(size), .write = true, .data = value & mask_of(size)};
  return false;
}

bool Emulator::load(const Location& location, unsigned offset, unsigned size, std::uint64_t& value) {
  value = 0;
  for (unsigned done = 0; done < size && done < 8;) {
    const unsigned at = offset + done;
    const bool first = at < location.first_size;
    const unsigned in_page = first ? location.first_size - at : location.size - at;
    unsigned piece = 8;
    while (piece > size - done || piece > in_page) piece /= 2;
    std::uint64_t part = 0;
    if (!load_piece(first ? location.address[0] + at : location.address[1] + (at - location.first_size), piece, part))
      return false;
    value |= part << (8 * done);
    done += piece;
  }
  return true;
}

bool Emulator::store(const Location& location, unsigned offset, unsigned size, std::uint64_t value) {
  for (unsigned done = 0; done < size && done < 8;) {
    const unsigned at = offset + done;
    const bool first = at < location.first_size;
    const unsigned in_page = first ? location.first_size - at : location.size - at;
    unsigned piece = 8;
    while (piece > size - done || piece > in_page) piece /= 2;
    if (!store_piece(first ? location.address[0] + at : location.address[1] + (at - location.first_size), piece,
                     value >> (8 * done)))
      return false;
    done += piece;
  }
  return true;
}

bool Emulator::read_port(std::uint16_t port, unsigned size, std::uint64_t& value) {
  if (take_recorded(value)) return true;
  touched_device_ = true;
  step_ = PortAccess{.port = port, .size = static_cast<std::uint8_t>(size), .write = false, .data = 0};
  return false;
}

bool Emulator::write_port(std::uint16_t port, unsigned size, std::uint64_t value) {
  std::uint64_t done = 0;
  if (take_recorded(done)) return true;
  touched_device_ = true;
  step_ = PortAccess{.port = port,
                     .size = static_cast<std::uint8_t>(size),
                     .write = true,
                     .data = static_cast<std::uint32_t>(value & mask_of(size))};
  return false;
}

}  // namespace bulkhead::engine::emulator
