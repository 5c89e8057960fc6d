// SPDX-License-Identifier: Apache-2.0
//
// The emulator with everything that a guest has in its hands: the code, the registers, the page tables in its memory,
// and what devices answer. Whatever it is, the instruction must come to an end within few accesses, and none may lead
// outside.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "engine/emulator/emulator.hpp"

namespace bulkhead::engine::emulator {
namespace {

constexpr std::uint64_t kMemorySize = 0x8000;
constexpr std::size_t kSeedSize = 0x400;

class FuzzedVectors final : public VectorRegisters {
 public:
  bool read(unsigned index, std::span<std::uint8_t, 16> value) override {
    std::fill(value.begin(), value.end(), static_cast<std::uint8_t>(index));
    return index < 16;
  }
  bool write(unsigned index, std::span<const std::uint8_t, 16>, bool clear_upper) override {
    return index < 16 && !clear_upper;
  }
};

/// Takes the input's bytes one after the other; zeros when it is used up.
class Source {
 public:
  Source(const std::uint8_t* data, std::size_t size) : data_(data, size) {}
  template <typename T>
  T take() {
    T value{};
    const std::size_t size = std::min(sizeof(T), data_.size());
    std::memcpy(&value, data_.data(), size);
    data_ = data_.subspan(size);
    return value;
  }
  std::span<const std::uint8_t> take_bytes(std::size_t size) {
    const auto bytes = data_.first(std::min(size, data_.size()));
    data_ = data_.subspan(bytes.size());
    return bytes;
  }

 private:
  std::span<const std::uint8_t> data_;
};

void require(bool condition) {
  if (!condition) std::abort();
}

ProcessorState fuzzed_state(Source& source) {
  ProcessorState state{};
  constexpr std::uint64_t kCr4s = kCr4PageSizeExtension | kCr4PhysicalAddressExtension | kCr4La57 | kCr4Smep | kCr4Smap;
  for (auto& value : state.general) value = source.take<std::uint64_t>();
  state.rip = source.take<std::uint64_t>();
  state.rflags = source.take<std::uint32_t>();
  for (auto& segment : state.segments) {
    segment.base = source.take<std::uint32_t>();
    segment.limit = source.take<std::uint32_t>();
    segment.attributes = source.take<std::uint16_t>();
  }
  state.cr0 = source.take<std::uint32_t>();
  state.cr3 = source.take<std::uint16_t>();
  state.cr4 = source.take<std::uint32_t>() & kCr4s;
  state.efer = source.take<std::uint16_t>() & (kEferLongModeActive | kEferNoExecute);
  state.physical_address_bits = static_cast<std::uint8_t>(32 + source.take<std::uint8_t>() % 21);
  if (source.take<std::uint8_t>() % 2 == 0) {  // a state in which most code is reached
    for (auto& segment : state.segments)
      segment = {.base = 0, .limit = 0xffffffff, .selector = 8, .attributes = 0xc093};
    state.segments[kCs].attributes = 0xc09b;
    state.cr0 = kCr0ProtectionEnable;
    state.rip %= kMemorySize;
  }
  return state;
}

void run(const std::uint8_t* data, std::size_t size) {
  static const auto memory = [] {
    const GuestMemory::Range range{.base = 0, .size = kMemorySize};
    return GuestMemory::allocate(std::span(&range, 1)).value();
  }();
  Source source(data, size);
  ProcessorState state = fuzzed_state(source);
  const auto all = memory->at(0, kMemorySize).value();
  std::ranges::fill(all, 0);
  const auto seed = source.take_bytes(kSeedSize);
  for (std::size_t place = 0; place < kMemorySize && !seed.empty(); place += seed.size()) {
    std::copy_n(seed.begin(), std::min<std::size_t>(seed.size(), kMemorySize - place),
                all.begin() + static_cast<std::ptrdiff_t>(place));
  }
  FuzzedVectors vectors;
  Emulator emulator(*memory, vectors);
  const std::uint64_t rip = state.rip;
  Step step = emulator.begin(state);
  for (int accesses = 0;; ++accesses) {
    require(accesses < 64 * 32);
    if (const auto* access = std::get_if<MemoryAccess>(&step)) {
      require(access->size == 1 || access->size == 2 || access->size == 4 || access->size == 8);
      require(!memory->at(access->address, access->size));
      step = access->write ? emulator.resume() : emulator.resume(source.take<std::uint64_t>());
    } else if (const auto* port = std::get_if<PortAccess>(&step)) {
      require(port->size == 1 || port->size == 2 || port->size == 4);
      step = port->write ? emulator.resume() : emulator.resume(source.take<std::uint32_t>());
    } else {
      break;
    }
  }
  if (!std::holds_alternative<Completed>(step)) require(state.rip == rip);
  (void)emulator.describe();
}

}  // namespace
}  // namespace bulkhead::engine::emulator

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  bulkhead::engine::emulator::run(data, size);
  return 0;
}
