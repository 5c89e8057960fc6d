// SPDX-License-Identifier: Apache-2.0
//
// The emulator against this machine's own processor: each instruction of oracle_cases.S is executed here on ordinary
// memory and by the emulator on a device, from the same random registers and bytes. Afterwards everything must be the
// same.
//
// Both see the same addresses: the guest's page tables map this process' window at its own address.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <random>

#include "engine/emulator/emulator.hpp"

extern "C" {
struct OracleCase {
  const std::uint8_t* code;
  std::uint64_t length;
  const char* text;
};
struct OracleRegisters {
  std::uint64_t general[16];
  std::uint64_t rflags;
  std::uint64_t padding;
  std::uint8_t xmm[16][16];
};
extern const OracleCase oracle_table[];
extern const std::uint8_t oracle_return[];
void oracle_execute(OracleRegisters* registers, const void* code);
}

namespace bulkhead::engine::emulator {
namespace {

// In the low 4 GiB, so that 32-bit addresses reach them too.
constexpr std::uint64_t kWindow = 0x40000000, kStackPage = 0x40010000, kCodePage = 0x40020000;
constexpr std::uint64_t kWindowSize = 0x2000, kPage = 0x1000;
// The guest's physical addresses of the same.
constexpr std::uint64_t kTables = 0x1000, kCodeFrame = 0x10000, kStackFrame = 0x11000, kWindowFrames = 0x20000,
                        kDevice = 0x80000000;

class GuestXmm final : public VectorRegisters {
 public:
  bool read(unsigned index, std::span<std::uint8_t, 16> value) override {
    std::memcpy(value.data(), registers.xmm[index], 16);
    return true;
  }
  bool write(unsigned index, std::span<const std::uint8_t, 16> value, bool) override {
    std::memcpy(registers.xmm[index], value.data(), 16);
    return true;
  }
  OracleRegisters registers{};
};

/// Which pages of the window are the device's.
struct Layout {
  bool first_is_device;
  bool second_is_device;
};

class Oracle : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_NE(map(kWindow, kWindowSize, PROT_READ | PROT_WRITE), MAP_FAILED);
    ASSERT_NE(map(kStackPage, kPage, PROT_READ | PROT_WRITE), MAP_FAILED);
    ASSERT_NE(map(kCodePage, kPage, PROT_READ | PROT_WRITE | PROT_EXEC), MAP_FAILED);
  }
  static void TearDownTestSuite() {
    munmap(host(kWindow), kWindowSize);
    munmap(host(kStackPage), kPage);
    munmap(host(kCodePage), kPage);
  }
  static void* map(std::uint64_t address, std::uint64_t size, int protection) {
    return mmap(host(address), size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  }
  static std::uint8_t* host(std::uint64_t address) { return reinterpret_cast<std::uint8_t*>(address); }

  void SetUp() override {
    const GuestMemory::Range range{.base = 0, .size = 0x40000};
    memory_ = GuestMemory::allocate(std::span(&range, 1)).value();
  }

  template <typename T>
  void put(std::uint64_t address, T value) {
    ASSERT_TRUE(memory_->write(address, std::span(reinterpret_cast<const std::uint8_t*>(&value), sizeof(value))));
  }
  void lay_page_tables(Layout layout) {
    put<std::uint64_t>(kTables, (kTables + 0x1000) | 3);
    put<std::uint64_t>(kTables + 0x1000 + 8, (kTables + 0x2000) | 3);  // 1 GiB
    put<std::uint64_t>(kTables + 0x2000, (kTables + 0x3000) | 3);
    const auto leaf = [&](std::uint64_t address, std::uint64_t frame) {
      put<std::uint64_t>(kTables + 0x3000 + ((address >> 12) & 511) * 8, frame | 3);
    };
    leaf(kWindow, layout.first_is_device ? kDevice : kWindowFrames);
    leaf(kWindow + kPage, layout.second_is_device ? kDevice + 0x5000 : kWindowFrames + kPage);
    leaf(kStackPage, kStackFrame);
    leaf(kCodePage, kCodeFrame);
  }

  /// The window's byte that the device, or the guest's memory, has at a physical address.
  std::uint8_t* device_byte(GuestPhysicalAddress address) {
    if (address >= kDevice && address < kDevice + kPage) return device_.data() + (address - kDevice);
    if (address >= kDevice + 0x5000 && address < kDevice + 0x6000)
      return device_.data() + kPage + (address - kDevice - 0x5000);
    return nullptr;
  }

  Step emulate(ProcessorState& state, AccessHint hint = {}) {
    Step step = emulator_->begin(state, hint);
    for (int accesses = 0; accesses < 1000; ++accesses) {
      const auto* access = std::get_if<MemoryAccess>(&step);
      if (access == nullptr) return step;
      EXPECT_TRUE(access->size == 1 || access->size == 2 || access->size == 4 || access->size == 8);
      std::uint8_t* place = device_byte(access->address);
      EXPECT_NE(place, nullptr);
      if (place == nullptr) return Unsupported{};
      if (access->write) {
        std::memcpy(place, &access->data, access->size);
        step = emulator_->resume();
      } else {
        std::uint64_t value = 0xdeadbeefdeadbeef;  // what is beyond the size does not count
        std::memcpy(&value, place, access->size);
        step = emulator_->resume(value);
      }
    }
    ADD_FAILURE() << "the instruction does not end";
    return step;
  }

  void compare(const OracleCase& oracle_case, OracleRegisters start, Layout layout);

  std::unique_ptr<GuestMemory> memory_;
  GuestXmm xmm_;
  std::unique_ptr<Emulator> emulator_;
  std::array<std::uint8_t, kWindowSize> device_;
  std::mt19937_64 random_{1};
};

ProcessorState long_mode(const OracleRegisters& registers) {
  ProcessorState state{};
  std::copy(std::begin(registers.general), std::end(registers.general), state.general.begin());
  state.rip = kCodePage;
  state.rflags = registers.rflags;
  for (auto& segment : state.segments)
    segment = {.base = 0, .limit = 0xffffffff, .selector = 0x10, .attributes = 0xc093};
  state.segments[kCs].attributes = 0xa09b;
  state.cr0 = 0x80010033;
  state.cr3 = kTables;
  state.cr4 = 0x620;
  state.efer = 0xd00;
  return state;
}

void Oracle::compare(const OracleCase& oracle_case, OracleRegisters start, Layout layout) {
  // The same bytes everywhere.
  for (auto& byte : device_) byte = static_cast<std::uint8_t>(random_());
  const bool equal_accumulator = random_() % 2 == 0;  // for CMPXCHG and SCAS
  if (equal_accumulator) std::memcpy(&start.general[0], device_.data() + (start.general[3] - kWindow), 8);
  if (random_() % 2 == 0)
    std::fill(device_.begin() + 0x180, device_.begin() + 0x600, static_cast<std::uint8_t>(start.general[0]));
  std::memcpy(host(kWindow), device_.data(), kWindowSize);
  std::array<std::uint8_t, kPage> stack;
  for (auto& byte : stack) byte = static_cast<std::uint8_t>(random_());
  std::memcpy(host(kStackPage), stack.data(), kPage);
  ASSERT_TRUE(memory_->write(kStackFrame, stack));
  ASSERT_TRUE(memory_->write(kWindowFrames, device_));
  ASSERT_TRUE(memory_->write(kCodeFrame, std::span(oracle_case.code, oracle_case.length)));
  lay_page_tables(layout);

  OracleRegisters native = start;
  std::uint8_t* code = host(kCodePage);
  std::memcpy(code, oracle_case.code, oracle_case.length);
  const std::array<std::uint8_t, 6> jump = {0xff, 0x25, 0, 0, 0, 0};  // JMP to the address that follows
  std::memcpy(code + oracle_case.length, jump.data(), jump.size());
  const auto* back = oracle_return;
  std::memcpy(code + oracle_case.length + jump.size(), &back, sizeof(back));
  oracle_execute(&native, code);

  xmm_.registers = start;
  emulator_ = std::make_unique<Emulator>(*memory_, xmm_);
  ProcessorState state = long_mode(start);
  Step step = emulate(state);
  // Repetitions in memory are left to the processor; here the emulator does them all.
  for (int more = 0; more < 100 && std::holds_alternative<Completed>(step) && state.rip == kCodePage; ++more)
    step = emulate(state);
  ASSERT_TRUE(std::holds_alternative<Completed>(step))
      << oracle_case.text << ": " << emulator_->describe() << " " << step.index();

  EXPECT_EQ(state.rip, kCodePage + oracle_case.length) << oracle_case.text;
  for (unsigned index = 0; index < 16; ++index) {
    EXPECT_EQ(state.general[index], native.general[index]) << oracle_case.text << ": register " << index;
    EXPECT_EQ(std::memcmp(xmm_.registers.xmm[index], native.xmm[index], 16), 0) << oracle_case.text << ": XMM" << index;
  }
  constexpr std::uint64_t kCompared = kArithmeticFlags | kDirection;
  EXPECT_EQ(state.rflags & kCompared, native.rflags & kCompared) << oracle_case.text;
  // What the device has not is in the guest's memory.
  std::array<std::uint8_t, kWindowSize> window;
  ASSERT_TRUE(memory_->read(kWindowFrames, window));
  if (layout.first_is_device) std::copy_n(device_.begin(), kPage, window.begin());
  if (layout.second_is_device) std::copy_n(device_.begin() + kPage, kPage, window.begin() + kPage);
  EXPECT_EQ(std::memcmp(window.data(), host(kWindow), kWindowSize), 0) << oracle_case.text << ": memory differs";
  std::array<std::uint8_t, kPage> emulated_stack;
  ASSERT_TRUE(memory_->read(kStackFrame, emulated_stack));
  EXPECT_EQ(std::memcmp(emulated_stack.data(), host(kStackPage), kPage), 0)
      << oracle_case.text << ": the stack differs";
}

OracleRegisters random_registers(std::mt19937_64& random) {
  OracleRegisters registers{};
  constexpr std::array<std::uint64_t, 8> kSpecial = {0,    1, 0x7f, 0x80, 0xff, 0x7fffffffffffffff, 0x8000000000000000,
                                                     ~0ull};
  for (auto& value : registers.general) value = random() % 4 == 0 ? kSpecial[random() % kSpecial.size()] : random();
  for (auto& value : registers.xmm) {
    for (auto& byte : value) byte = static_cast<std::uint8_t>(random());
  }
  registers.general[1] = random() % 5;
  registers.general[2] = static_cast<std::uint64_t>(static_cast<std::int64_t>(random() % 1024) - 512);
  registers.general[4] = kStackPage + 0x800;
  registers.rflags = 0x202 | (random() & (kArithmeticFlags | kDirection));
  return registers;
}

/// RBX, RSI and RDI in the window, none near a page boundary.
void point_into_pages(OracleRegisters& registers, std::mt19937_64& random) {
  registers.general[3] = kWindow + 0x200 + random() % 64;
  registers.general[6] = kWindow + 0x300;
  registers.general[7] = kWindow + 0x400 + random() % 64;
}

TEST_F(Oracle, InstructionsOnADeviceAreAsOnMemory) {
  for (const OracleCase* oracle_case = oracle_table; oracle_case->code != nullptr; ++oracle_case) {
    for (int round = 0; round < 24; ++round) {
      OracleRegisters registers = random_registers(random_);
      point_into_pages(registers, random_);
      compare(*oracle_case, registers, {true, true});
      if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
  }
}

TEST_F(Oracle, AccessesAcrossPagesAreAsOnMemory) {
  for (const OracleCase* oracle_case = oracle_table; oracle_case->code != nullptr; ++oracle_case) {
    const std::string_view text = oracle_case->text;
    if (text.find("(%rsi)") != text.npos) continue;  // must be aligned
    for (int round = 0; round < 24; ++round) {
      OracleRegisters registers = random_registers(random_);
      registers.general[3] = kWindow + kPage - random_() % 18;
      registers.general[6] = kWindow + kPage - random_() % 18;
      registers.general[7] = kWindow + kPage - random_() % 18;
      const Layout layout = {random_() % 2 == 0, random_() % 2 == 0};
      compare(*oracle_case, registers, layout);
      if (HasFatalFailure() || HasNonfatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace bulkhead::engine::emulator
