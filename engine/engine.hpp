// SPDX-License-Identifier: Apache-2.0
//
// The hypervisor interface library: the one place where the ways to run a guest differ.
//
//   Engine ── create_partition ──▶ Partition ── create_vp ──▶ VirtualProcessor ── run ──▶ Exit
//
// Implementations: engine/native/ (the Bulkhead hypervisor, through /dev/bulkhead), engine/kvm/ (Linux's KVM), and
// engine/fake/ for tests.
// The local APICs, the processors' halting and their start by INIT and SIPI are below this line; all other devices are
// above it. MMIO and string port instructions are decoded and completed below this line too, so that a device sees
// only simple accesses.
//
// A partition's state is saved and restored while its time stands still and no processor runs:
//
//   here       freeze_time ─▶ save (the partition, each VP) ─▶ thaw_time
//   there      map_memory with the same contents, create_vp ─▶ freeze_time ─▶ restore (the partition, each VP) ─▶ thaw_time
//
// Between freezing and thawing no interrupts are sent and no messages posted: the devices above have stopped too.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>

#include "abi/interrupt_message.hpp"
#include "abi/register.hpp"
#include "engine/dirty_pages.hpp"
#include "engine/guest_memory.hpp"
#include "engine/synic.hpp"
#include "error/error.hpp"
#include "state/saved_state.hpp"

namespace bulkhead::engine {

/// The guest accesses an I/O port. `size` is 1, 2 or 4 bytes.
/// For a read, call VirtualProcessor::complete_read before the next run.
struct PortExit {
  std::uint16_t port;
  std::uint8_t size;
  bool write;
  std::uint32_t data;  // of a write
};
/// The guest accesses memory that is not mapped, or writes memory that is read-only. `size` is 1, 2, 4 or 8 bytes.
/// For a read, call VirtualProcessor::complete_read before the next run.
struct MmioExit {
  GuestPhysicalAddress address;
  std::uint8_t size;
  bool write;
  std::uint64_t data;  // of a write
};
/// The guest ended a level-triggered interrupt.
struct EoiExit {
  std::uint8_t vector;
};
/// The processor can take an interrupt from the PIC now; asked for by request_interrupt_window.
struct InterruptWindowExit {};
/// The guest's processor shut down: an exception while delivering a double fault.
struct TripleFaultExit {};
/// The guest wrote the RESET register: TLFS, "Partition Reset".
struct ResetExit {};
/// The guest's kernel says that it has crashed. It may go on for a while.
struct CrashExit {
  std::array<std::uint64_t, 5> parameters;  // the crash registers P0 to P4, whatever they mean to the guest
  std::string text;                         // the guest's words, at most 4096 bytes of anything; or empty
};
/// `cancel` was called.
struct CancelledExit {};
/// The guest did something that cannot be emulated, or its registers are a state no processor can be in.
struct FailureExit {
  std::string why;
};
using Exit = std::variant<PortExit, MmioExit, EoiExit, InterruptWindowExit, TripleFaultExit, ResetExit, CrashExit,
                          CancelledExit, FailureExit>;

struct RegisterAssignment {
  abi::RegisterName name;
  abi::RegisterValue value;
};

class VirtualProcessor {
 public:
  virtual ~VirtualProcessor() = default;

  virtual std::uint32_t index() const = 0;

  /// Runs the guest until the next exit. Halts and waits for SIPI happen inside. One thread at a time.
  /// An error is about the engine (the hypervisor went away), not about the guest.
  virtual Result<Exit> run() = 0;
  /// What the last exit, a read, gives to the guest.
  virtual void complete_read(std::uint64_t value) = 0;

  /// From any thread: the current run, or else the next one, returns CancelledExit soon.
  virtual void cancel() = 0;

  /// From any thread: run returns InterruptWindowExit once as soon as the processor and its local APIC (LINT0 as
  /// ExtINT) can take an interrupt from the PIC. `false` takes the request back.
  virtual void request_interrupt_window(bool wanted) = 0;
  /// After InterruptWindowExit, before the next run: the PIC's vector.
  virtual Result<> inject_external_interrupt(std::uint8_t vector) = 0;

  /// Only while no thread runs it. After an unfinished access was completed by the next run, or for a processor that
  /// has not run yet. Order matters: a value is checked against those before it.
  virtual Result<> set_registers(std::span<const RegisterAssignment> assignments) = 0;
  /// Fills in the values for the names.
  virtual Result<> get_registers(std::span<RegisterAssignment> assignments) = 0;

  /// Everything that the processor is: registers, floating point and vectors, pending events, local APIC, SynIC, timers,
  /// time stamp counter. Not in it: a wish for an interrupt window, which is the PIC's. Only after CancelledExit, or
  /// before the first run, and while the partition's time is frozen. Errors: not so; what this engine cannot save.
  virtual Result<state::SavedUnit> save() = 0;
  /// Takes what `save` gave of the processor with this index, under the same conditions. Errors: another engine's or
  /// another machine's state; a value that this host's processor cannot have. After an error the partition is of no use.
  virtual Result<> restore(const state::SavedUnit& saved) = 0;
};

enum class MemoryAccess : std::uint8_t { ReadExecute, ReadWriteExecute };

struct PartitionSettings {
  std::uint32_t vp_count = 1;   // processors are numbered from 0; the APIC id is the number
  bool synic = false;           // the processors have SynICs; only if Capabilities::synic
  bool memory_changes = false;  // take_memory and give_memory will be used; only if Capabilities::takes_memory
};

class Partition {
 public:
  virtual ~Partition() = default;

  /// Gives every region of `memory` to the guest, or those that are there at the start, if memory changes. The memory must
  /// live longer than the partition. Once.
  virtual Result<> map_memory(GuestMemory& memory) = 0;

  // The following are for partitions whose memory changes (PartitionSettings::memory_changes). From any thread, one call at
  // a time.

  /// Whole pages that are the guest's: their memory goes back to the host. An engine may take memory in larger pieces only;
  /// it then takes a piece when the last page of it has gone. A guest that uses such pages all the same finds nothing that
  /// was there, and harms only itself. Error: it is not memory of this partition.
  virtual Result<> take_memory(GuestPhysicalAddress, std::uint64_t) { return fail("this engine takes no memory"); }
  /// Whole pages, which are not the guest's, become the guest's. Error: the host has none; then none of them have.
  virtual Result<> give_memory(GuestPhysicalAddress, std::uint64_t) { return fail("this engine gives no memory"); }
  /// Of pages that are not the guest's, how many take memory of the host because the guest has used them; take_memory takes
  /// them again.
  virtual std::uint64_t used_again(GuestPhysicalAddress, std::uint64_t) const { return 0; }

  /// Processors start in their architectural reset state: number 0 running at the reset vector, the others waiting for
  /// INIT and SIPI. A VP must not outlive its partition.
  virtual Result<std::unique_ptr<VirtualProcessor>> create_vp(std::uint32_t index) = 0;

  /// From any thread. Sends the interrupt to the local APICs it addresses.
  virtual void send_interrupt(abi::InterruptMessage message) = 0;

  /// From any thread: the messages that the machine's level-triggered inputs send now, so that their end is reported
  /// (EoiExit). An engine that knows this from the interrupts themselves does nothing.
  virtual void set_level_messages(std::span<const abi::InterruptMessage> messages) = 0;

  /// Reference time and the processors' time stamp counters stand still from here, and go on where they stood. Only
  /// while no processor runs. Freezing what is frozen, or thawing what is not, changes nothing.
  virtual Result<> freeze_time() = 0;
  virtual Result<> thaw_time() = 0;
  /// What the processors of the partition have in common, the reference time. Only while time is frozen.
  virtual Result<state::SavedUnit> save() = 0;
  virtual Result<> restore(const state::SavedUnit& saved) = 0;

  /// From now on it is noted which pages are written, or no longer. After map_memory.
  virtual Result<> track_dirty_pages(bool wanted) = 0;
  /// The pages that the guest has written, or the hypervisor in its name, since tracking began or since the last harvest:
  /// all of them. Others are there only if the guest touched them for the first time in its life. What this process writes
  /// through GuestMemory it knows itself. Error: nothing is tracked.
  virtual Result<DirtyPages> harvest_dirty_pages() = 0;

  // The following are for partitions with SynICs; without them there is nothing to hear, and messages are refused.

  /// While no processor runs. The listener must live until another one, or none (null), takes its place.
  virtual void set_synic_listener(SynicListener*) {}
  /// From any thread. Puts the message into its slot if that is free, and interrupts the VP.
  virtual SynicStatus post_message(abi::VpIndex, abi::Sint, const abi::SynicMessage&) { return SynicStatus::Refused; }
  /// From any thread. Sets the event flag, 0 to 2047, and interrupts the VP if it was clear.
  virtual SynicStatus signal_event(abi::VpIndex, abi::Sint, std::uint16_t) { return SynicStatus::Refused; }
  /// From any thread. The partition reference time in 100 ns, as the guest reads it; nothing if the engine cannot tell
  /// (Capabilities::reference_time).
  virtual std::optional<std::uint64_t> reference_time() const { return std::nullopt; }
};

struct Capabilities {
  std::string name;             // "native", "kvm"
  std::uint32_t maximum_vps;    // per partition
  std::uint64_t tsc_frequency;  // Hz, of the guest; 0: not known
  bool synic = false;           // partitions can have SynICs
  bool saved_state = false;     // partitions can be saved and restored
  bool dirty_pages = false;     // it can be noted which pages a guest writes
  bool reference_time = false;  // Partition::reference_time tells it
  bool takes_memory = false;    // partitions' memory can change while they run
};

class Engine {
 public:
  virtual ~Engine() = default;
  /// tsc_frequency may be 0 until it has been tried out.
  virtual const Capabilities& capabilities() const = 0;
  /// Makes sure that it runs guests, by running one, for which it may have to wait. A machine need not ask for that: its
  /// own guest's first run says the same. Error: why it does not.
  virtual Result<> try_out() { return {}; }
  virtual Result<std::unique_ptr<Partition>> create_partition(const PartitionSettings& settings) = 0;
};

}  // namespace bulkhead::engine
