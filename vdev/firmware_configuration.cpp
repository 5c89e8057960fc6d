// SPDX-License-Identifier: Apache-2.0
#include "vdev/firmware_configuration.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace bulkhead::vdev {
namespace {

constexpr std::uint16_t kSelector = 0x510;
constexpr std::uint16_t kData = 0x511;
constexpr std::uint16_t kAddressHigh = 0x514;
constexpr std::uint16_t kAddressLow = 0x518;
constexpr std::array<PortRange, 2> kPorts{{{kSelector, kData}, {kAddressHigh, kAddressLow + 3}}};

constexpr std::string_view kSignature = "QEMU";
constexpr std::string_view kTransferSignature = "QEMU CFG";  // what reads of the address port give
constexpr std::uint64_t kBothWays = 0x3;                     // features: the ports, and transfers to memory

// A command for a transfer; all of it is big endian.
struct TransferCommand {
  std::uint32_t control;
  std::uint32_t length;
  std::uint64_t address;
};
static_assert(sizeof(TransferCommand) == 16);
constexpr std::uint32_t kError = 1, kRead = 2, kSkip = 4, kSelect = 8, kWrite = 16;

template <typename Number>
Number big_endian(Number value) {
  if constexpr (sizeof value == 2) return __builtin_bswap16(value);
  if constexpr (sizeof value == 4) return __builtin_bswap32(value);
  if constexpr (sizeof value == 8) return __builtin_bswap64(value);
}

template <typename Number>
void append_big_endian(std::vector<std::uint8_t>& to, Number value) {
  const auto bytes = std::bit_cast<std::array<std::uint8_t, sizeof(Number)>>(big_endian(value));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

constexpr std::uint16_t number_of(FirmwareConfiguration::Item item) { return static_cast<std::uint16_t>(item); }

}  // namespace

FirmwareConfiguration::FirmwareConfiguration(engine::GuestMemory& memory) : memory_(memory) {
  set(Item::Signature, {kSignature.begin(), kSignature.end()});
  set_number(Item::Features, kBothWays, 4);
  renew_directory();
}

void FirmwareConfiguration::set(Item item, std::vector<std::uint8_t> bytes) {
  items_[number_of(item)] = {.owned = std::move(bytes), .source = {}};
}

void FirmwareConfiguration::set_source(Item item, Source source) {
  items_[number_of(item)] = {.owned = {}, .source = std::move(source)};
}

void FirmwareConfiguration::set_number(Item item, std::uint64_t value, unsigned size) {
  std::vector<std::uint8_t> bytes(size);
  for (unsigned index = 0; index < size; ++index) bytes[index] = static_cast<std::uint8_t>(value >> (8 * index));
  set(item, std::move(bytes));
}

void FirmwareConfiguration::set_file(std::string_view name, std::vector<std::uint8_t> bytes) {
  auto found = std::ranges::find(files_, name);
  if (found == files_.end()) found = files_.emplace(files_.end(), name.substr(0, kFileNameSize - 1));
  const auto index = static_cast<std::uint16_t>(found - files_.begin());
  items_[static_cast<std::uint16_t>(number_of(Item::FirstFile) + index)] = {.owned = std::move(bytes), .source = {}};
  renew_directory();
}

void FirmwareConfiguration::renew_directory() {
  std::vector<std::uint8_t> directory;
  append_big_endian(directory, static_cast<std::uint32_t>(files_.size()));
  std::uint16_t number = number_of(Item::FirstFile);
  for (const auto& name : files_) {
    append_big_endian(directory, static_cast<std::uint32_t>(items_[number].size()));
    append_big_endian(directory, number++);
    append_big_endian(directory, std::uint16_t{0});
    directory.insert(directory.end(), name.begin(), name.end());
    directory.resize(directory.size() + kFileNameSize - name.size());
  }
  set(Item::Directory, std::move(directory));
}

std::span<const PortRange> FirmwareConfiguration::ports() const { return kPorts; }

void FirmwareConfiguration::select(std::uint16_t item) {
  selected_ = item;
  offset_ = 0;
}

bool FirmwareConfiguration::Content::read(std::uint64_t offset, std::span<std::uint8_t> to) const {
  if (source.read) return source.read(offset, to);
  std::ranges::copy(std::span(owned).subspan(offset, to.size()), to.begin());
  return true;
}

bool FirmwareConfiguration::read_on(std::span<std::uint8_t> to) {
  const auto found = items_.find(selected_);
  const std::uint64_t size = found == items_.end() ? 0 : found->second.size();
  const auto front = to.first(std::min<std::uint64_t>(to.size(), size - std::min(size, offset_)));
  std::ranges::fill(to.subspan(front.size()), std::uint8_t{0});
  if (!front.empty() && !found->second.read(offset_, front)) return false;
  offset_ += to.size();
  return true;
}

std::uint32_t FirmwareConfiguration::read_port(std::uint16_t port, unsigned size) {
  std::uint32_t value = 0;
  for (unsigned index = 0; index < size; ++index) {
    std::uint32_t byte = 0;
    if (port >= kAddressHigh) {
      byte = static_cast<std::uint8_t>(kTransferSignature[port + index - kAddressHigh]);
    } else if (port == kData) {
      std::uint8_t next = 0;
      if (read_on({&next, 1})) byte = next;
    }
    value |= byte << (8 * index);
  }
  return value;
}

void FirmwareConfiguration::write_port(std::uint16_t port, unsigned size, std::uint32_t value) {
  if (port == kSelector && size == 2) select(static_cast<std::uint16_t>(value));
  if (size != 4) return;
  if (port == kAddressHigh) address_high_ = big_endian(value);
  if (port == kAddressLow) {
    transfer(std::uint64_t{std::exchange(address_high_, 0)} << 32 | big_endian(value));
  }
}

/// A command that cannot be read cannot be answered either; other errors are told in its control word.
void FirmwareConfiguration::transfer(std::uint64_t command_address) {
  TransferCommand command;
  const std::span bytes(reinterpret_cast<std::uint8_t*>(&command), sizeof command);
  if (!memory_.read(command_address, bytes)) return;
  const std::uint32_t control = big_endian(command.control);
  const std::uint32_t length = big_endian(command.length);
  if (control & kSelect) select(static_cast<std::uint16_t>(control >> 16));
  bool done = true;
  if (control & kRead) {
    done = copy_to_guest(big_endian(command.address), length);
  } else if (control & kSkip) {
    offset_ += length;
  } else if (control & kWrite) {
    done = false;
  }
  command.control = big_endian(done ? 0u : kError);
  const auto* place = memory_.find(command_address);
  if (place == nullptr || !place->writable) return;
  static_cast<void>(memory_.write(command_address, bytes.first(sizeof command.control)));
}

bool FirmwareConfiguration::copy_to_guest(std::uint64_t address, std::uint32_t size) {
  while (size > 0) {
    const auto* region = memory_.find(address);
    if (region == nullptr || !region->writable) return false;
    const auto part = *memory_.front_of(address, size);
    if (!read_on(part)) return false;
    address += part.size();
    size -= static_cast<std::uint32_t>(part.size());
  }
  return true;
}

void FirmwareConfiguration::reset() {
  select(0);
  address_high_ = 0;
}

state::SavedUnit FirmwareConfiguration::save() const {
  state::SavedUnit saved(1);
  saved.number("selected", selected_);
  saved.number("offset", offset_);
  saved.number("address-high", address_high_);
  return saved;
}

Result<> FirmwareConfiguration::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, name(), 1);
  const auto selected = static_cast<std::uint16_t>(reader.number("selected", UINT16_MAX));
  const std::uint64_t offset = reader.number("offset");
  const auto address_high = static_cast<std::uint32_t>(reader.number("address-high", UINT32_MAX));
  if (auto ok = reader.finish(); !ok) return ok;
  selected_ = selected;
  offset_ = offset;
  address_high_ = address_high;
  return {};
}

void FirmwareConfiguration::inspect(state::Inspection& node) const {
  node.value("selected", std::uint64_t{selected_});
  node.value("offset", offset_);
  node.value("files", std::uint64_t{files_.size()});
}

}  // namespace bulkhead::vdev
