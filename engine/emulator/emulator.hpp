// SPDX-License-Identifier: Apache-2.0
//
// Executes one instruction of a guest that the processor could not, because an operand lies where there is no memory,
// or because it is a string instruction on an I/O port.
//
//   begin ──▶ MemoryAccess or PortAccess ──▶ (a device does it) ──▶ resume ──▶ ... ──▶ Completed or Fault
//
// The instruction is executed from its start at each `resume`, with a record of the accesses that are done already in
// place of doing them again; registers change only when nothing can fail any more. So there is no half-executed
// instruction to be described, and a repetition of a string instruction is complete in itself.
//
// The emulator is not a processor: it takes instructions that move data to or from memory, because these are what
// drivers use. Anything else is Unsupported.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "engine/emulator/arithmetic.hpp"
#include "engine/emulator/decoder.hpp"
#include "engine/emulator/page_walk.hpp"
#include "engine/emulator/processor_state.hpp"
#include "engine/guest_memory.hpp"

namespace bulkhead::engine::emulator {

/// A device is to be read or written. `size` is 1, 2, 4 or 8, or 1, 2 or 4 for a port.
struct MemoryAccess {
  GuestPhysicalAddress address;
  std::uint8_t size;
  bool write;
  std::uint64_t data;
};
struct PortAccess {
  std::uint16_t port;
  std::uint8_t size;
  bool write;
  std::uint32_t data;
};
/// The instruction was executed, or some repetitions of it, and the state is that after it. `single_step`: the
/// processor would now take a debug exception because RFLAGS.TF was set.
struct Completed {
  bool single_step;
};
/// The instruction has no effect but this exception.
struct Fault {
  std::uint8_t vector;
  bool has_error_code;
  bool sets_cr2;
  std::uint32_t error_code;
  std::uint64_t cr2;
};
/// The instruction cannot be emulated; Emulator::describe tells which one it is.
struct Unsupported {};
using Step = std::variant<MemoryAccess, PortAccess, Completed, Fault, Unsupported>;

/// What the processor told of the access that it could not do.
struct AccessHint {
  GuestPhysicalAddress address = 0;
  bool is_operand = false;  // the address is that of the access, and not of a page table on the way to it
  bool is_fetch = false;
};

class Emulator {
 public:
  /// `written`: where the pages go that it writes; null: nobody wants to know.
  Emulator(GuestMemory& memory, VectorRegisters& vectors, WrittenPages* written = nullptr)
      : memory_(memory), vectors_(vectors), written_(written) {}

  /// Starts the instruction at RIP. `state` must stay until Completed, Fault or Unsupported.
  Step begin(ProcessorState& state, AccessHint hint = {});
  /// After a write was done.
  Step resume();
  /// After a read, with what was read.
  Step resume(std::uint64_t value);

  /// The bytes of the instruction and where it is, for the message of a failure.
  std::string describe() const;

 private:
  static constexpr unsigned kLongestRecord = 24;
  /// Repetitions that are executed before interrupts get their chance.
  static constexpr unsigned kRepetitionsAtOnce = 64;

  /// Where an operand lies: in one page or in two.
  struct Location {
    std::array<GuestPhysicalAddress, 2> address;
    std::uint8_t first_size;  // bytes in the first page
    std::uint8_t size;
  };

  // Each returns false when the instruction cannot go on now; step_ then says why.
  bool fetch();
  bool execute();
  bool execute_load();
  bool execute_store();
  bool execute_two_operands();
  bool execute_compare_exchange();
  bool execute_bit();
  bool execute_push();
  bool execute_pop();
  bool execute_vector();
  bool execute_touch();
  bool execute_exchange();
  bool execute_string();
  bool execute_repetition();
  bool move_string();
  bool compare_string();
  bool port_string();

  bool locate_operand(bool write, Location& location);
  bool locate(unsigned segment, std::uint64_t offset, unsigned size, bool write, Location& location);
  bool linear_address(unsigned segment, std::uint64_t offset, unsigned size, bool write, std::uint64_t& linear);
  bool physical_address(std::uint64_t linear, bool write, GuestPhysicalAddress& address);
  // Up to 8 bytes at `offset` of the operand.
  bool load(const Location& location, std::uint64_t& value) { return load(location, 0, location.size, value); }
  bool load(const Location& location, unsigned offset, unsigned size, std::uint64_t& value);
  bool load_piece(GuestPhysicalAddress address, unsigned size, std::uint64_t& value);
  bool store(const Location& location, std::uint64_t value) { return store(location, 0, location.size, value); }
  bool store(const Location& location, unsigned offset, unsigned size, std::uint64_t value);
  bool store_piece(GuestPhysicalAddress address, unsigned size, std::uint64_t value);
  bool take_recorded(std::uint64_t& value);
  void record(std::uint64_t value);
  bool read_port(std::uint16_t port, unsigned size, std::uint64_t& value);
  bool write_port(std::uint16_t port, unsigned size, std::uint64_t value);

  bool fault(std::uint8_t vector, std::optional<std::uint32_t> error_code);
  bool page_fault(std::uint64_t linear, std::uint32_t error_code);
  bool unsupported();

  std::uint64_t effective_offset() const;
  std::uint64_t partner_value() const;
  void set_register(unsigned number, unsigned size, std::uint64_t value, bool high_byte = false);
  void advance_pointer(unsigned number);
  unsigned stack_address_size() const;
  std::uint64_t register_part(unsigned number, unsigned size) const { return state_->general[number] & mask_of(size); }
  bool is_whole_operand() const;
  void finish_load(std::uint64_t value);
  void finish();
  Step go_on();

  GuestMemory& memory_;
  VectorRegisters& vectors_;
  WrittenPages* written_;
  Decoder decoder_;

  ProcessorState* state_ = nullptr;
  AccessHint hint_;
  bool hint_applies_ = false;
  InstructionBytes code_;
  const Instruction* instruction_ = nullptr;
  std::array<std::uint64_t, kLongestRecord> record_;  // values of the accesses done by the instruction or repetition
  unsigned recorded_ = 0;
  unsigned position_ = 0;  // in the record, of the next access
  unsigned repetitions_ = 0;
  bool touched_device_ = false;  // the current repetition did
  Step step_ = Unsupported{};
};

}  // namespace bulkhead::engine::emulator
