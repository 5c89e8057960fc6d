// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/kvm_virtual_processor.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>

#include "engine/guest_crash.hpp"
#include "engine/kvm/kvm_msrs.hpp"
#include "engine/kvm/kvm_partition.hpp"
#include "engine/kvm/kvm_registers.hpp"
#include "engine/kvm/kvm_saved_processor.hpp"

namespace bulkhead::engine::kvm {
namespace {

/// Ends KVM_RUN. Its handler does nothing; other system calls go on after it.
int kick_signal() { return SIGRTMIN; }

void install_kick_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    action.sa_flags = SA_RESTART;
    sigaction(kick_signal(), &action, nullptr);
  });
}

/// The caller's thread id, able to take the kick from here on.
pid_t this_thread() {
  thread_local const pid_t id = [] {
    sigset_t kick;
    sigemptyset(&kick);
    sigaddset(&kick, kick_signal());
    pthread_sigmask(SIG_UNBLOCK, &kick, nullptr);
    return gettid();
  }();
  return id;
}

}  // namespace

KvmVirtualProcessor::KvmVirtualProcessor(KvmPartition& partition, FileDescriptor processor, MappedMemory shared,
                                         std::uint32_t index, std::vector<kvm_cpuid_entry2> cpuid)
    : partition_(partition),
      processor_(std::move(processor)),
      shared_(std::move(shared)),
      run_(static_cast<kvm_run*>(shared_.start())),
      index_(index),
      cpuid_(std::move(cpuid)),
      synic_(partition.synic()) {
  partition_.add(*this);
}

KvmVirtualProcessor::~KvmVirtualProcessor() { partition_.remove(*this); }

Result<std::unique_ptr<VirtualProcessor>> KvmVirtualProcessor::create(KvmPartition& partition, FileDescriptor processor,
                                                                      std::uint32_t index,
                                                                      std::vector<kvm_cpuid_entry2> cpuid) {
  install_kick_handler();
  const std::string attempt = fmt::format("cannot set up virtual processor {}", index);
  MappedMemory shared = MappedMemory::map(processor.get(), partition.host().run_size);
  if (!shared.is_mapped()) return std::unexpected(Error::from_errno(attempt, errno));

  std::vector<std::uint8_t> storage(sizeof(kvm_cpuid2) + cpuid.size() * sizeof(kvm_cpuid_entry2));
  auto* table = reinterpret_cast<kvm_cpuid2*>(storage.data());
  table->nent = static_cast<std::uint32_t>(cpuid.size());
  std::ranges::copy(cpuid, table->entries);
  if (ioctl(processor.get(), KVM_SET_CPUID2, table) < 0) return std::unexpected(Error::from_errno(attempt, errno));
  if (partition.synic() != nullptr) {
    kvm_enable_cap enable = {};
    enable.cap = KVM_CAP_HYPERV_SYNIC2;
    if (ioctl(processor.get(), KVM_ENABLE_CAP, &enable) < 0) {
      return std::unexpected(Error::from_errno(attempt + " with a SynIC", errno));
    }
  }
  return std::unique_ptr<VirtualProcessor>(
      new KvmVirtualProcessor(partition, std::move(processor), std::move(shared), index, std::move(cpuid)));
}

void KvmVirtualProcessor::kick() {
  run_->immediate_exit = 1;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!in_kernel_.load()) return;
  if (const pid_t thread = thread_.load(); thread != 0) syscall(SYS_tgkill, getpid(), thread, kick_signal());
}

void KvmVirtualProcessor::cancel() {
  cancelled_.store(true);
  kick();
}

void KvmVirtualProcessor::request_interrupt_window(bool wanted) {
  window_wanted_.store(wanted);
  // While the VP's own thread is outside of run it looks at the flag by itself.
  if (wanted && in_kernel_.load()) kick();
}

/// Not by KVM_INTERRUPT: what that is given cannot be read back before the guest has taken it, and so not be saved.
Result<> KvmVirtualProcessor::inject_external_interrupt(std::uint8_t vector) {
  run_->ready_for_interrupt_injection = 0;  // KVM says so itself only at the next exit
  return inject_interrupt(processor_.get(), vector);
}

/// Enters the guest; true if there is an exit to look at.
Result<bool> KvmVirtualProcessor::enter(bool immediate) {
  if (immediate) run_->immediate_exit = 1;
  const int result = ioctl(processor_.get(), KVM_RUN, 0);
  // EAGAIN: a processor that waited for SIPI got it.
  const bool interrupted = result < 0 && (errno == EINTR || errno == EAGAIN);
  if (result >= 0 || interrupted) {
    has_run_ = true;
    return !interrupted;
  }
  return std::unexpected(Error::from_errno(has_run_ ? fmt::format("cannot run virtual processor {}", index_)
                                                    : "/dev/kvm creates machines but cannot run them (KVM_RUN)",
                                           errno));
}

Result<Exit> KvmVirtualProcessor::run() {
  thread_.store(this_thread());
  for (;;) {
    if (auto piece = next_piece()) return *piece;
    if (std::exchange(translate_again_, false)) {
      if (auto exit = translate()) return *exit;
    }
    in_kernel_.store(true);
    run_->immediate_exit = 0;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (cancelled_.load()) {
      in_kernel_.store(false);
      auto more = finish_access();
      if (!more) return std::unexpected(more.error());
      if (*more) return **more;
      cancelled_.store(false);
      return CancelledExit{};
    }
    const bool window_wanted = window_wanted_.load();
    if (window_wanted && !unfinished_ && run_->ready_for_interrupt_injection) {
      in_kernel_.store(false);
      window_wanted_.store(false);
      return InterruptWindowExit{};
    }
    run_->request_interrupt_window = window_wanted;
    const Result<bool> exited = enter(false);
    in_kernel_.store(false);
    if (!exited) return std::unexpected(exited.error());
    unfinished_ = false;
    if (!*exited) continue;
    if (auto exit = translate()) return *exit;
  }
}

/// Lets KVM complete the instruction of the last exit without going on in the guest. Gives the next exit if the
/// instruction is not through.
Result<std::optional<Exit>> KvmVirtualProcessor::finish_access() {
  while (unfinished_) {
    const Result<bool> exited = enter(true);
    if (!exited) return std::unexpected(exited.error());
    unfinished_ = false;
    if (!*exited) break;
    if (auto exit = translate()) return exit;
  }
  return std::nullopt;
}

std::optional<Exit> KvmVirtualProcessor::next_piece() {
  if (pieces_.empty()) return std::nullopt;
  Piece piece = std::move(pieces_.front());
  pieces_.pop_front();
  Exit exit = piece.exit;
  if (!piece.write) reading_ = std::move(piece);
  return exit;
}

void KvmVirtualProcessor::complete_read(std::uint64_t value) {
  if (!reading_) return;
  std::memcpy(reading_->place, &value, reading_->size);
  reading_.reset();
}

/// The exit that KVM_RUN returned with, or nothing if the guest can go on at once.
std::optional<Exit> KvmVirtualProcessor::translate() {
  switch (run_->exit_reason) {
    case KVM_EXIT_IO: split_port_exit(); return next_piece();
    case KVM_EXIT_MMIO: split_mmio_exit(); return next_piece();
    case KVM_EXIT_IOAPIC_EOI: return EoiExit{.vector = run_->eoi.vector};
    case KVM_EXIT_IRQ_WINDOW_OPEN:
      if (!window_wanted_.exchange(false)) return std::nullopt;
      return InterruptWindowExit{};
    case KVM_EXIT_SHUTDOWN: return TripleFaultExit{};
    case KVM_EXIT_HYPERV: handle_hyperv_exit(); return std::nullopt;
    case KVM_EXIT_X86_WRMSR: return handle_msr_write();
    case KVM_EXIT_X86_RDMSR:  // of the crash control register: what a guest can say with it
      unfinished_ = true;
      run_->msr.error = 0;
      run_->msr.data = kCrashNotify | kCrashMessage;
      return std::nullopt;
    case KVM_EXIT_SYSTEM_EVENT:
      if (run_->system_event.type == KVM_SYSTEM_EVENT_RESET) return ResetExit{};
      return FailureExit{fmt::format("KVM system event {} is unknown here", run_->system_event.type)};
    case KVM_EXIT_INTR: return std::nullopt;
    case KVM_EXIT_FAIL_ENTRY:
      return FailureExit{fmt::format("the processor refused the guest's state (reason {:#x})",
                                     static_cast<std::uint64_t>(run_->fail_entry.hardware_entry_failure_reason))};
    case KVM_EXIT_INTERNAL_ERROR: return describe_internal_error();
    default: return FailureExit{fmt::format("KVM exit reason {} is unknown here", run_->exit_reason)};
  }
}

void KvmVirtualProcessor::handle_hyperv_exit() {
  auto& hyperv = run_->hyperv;
  if (hyperv.type == KVM_EXIT_HYPERV_HCALL) {
    unfinished_ = true;
    hyperv.u.hcall.result = synic_ != nullptr ? synic_->hypercall(hyperv.u.hcall.input, hyperv.u.hcall.params[0])
                                              : std::uint16_t{HV_STATUS_INVALID_HYPERCALL_CODE};
  } else if (hyperv.type == KVM_EXIT_HYPERV_SYNIC && synic_ != nullptr) {
    const auto& synic = hyperv.u.synic;
    synic_->registers_written(index_, synic.control, synic.msg_page, synic.evt_page);
  }
}

/// Writes of EOM and of the crash control register come here. The kernel is to see the first too: its synthetic timers wait for slots
/// as well.
std::optional<Exit> KvmVirtualProcessor::handle_msr_write() {
  unfinished_ = true;
  run_->msr.error = 0;
  if (run_->msr.index == kMsrCrashControl) {
    if ((run_->msr.data & kCrashNotify) == 0) return std::nullopt;
    return describe_crash();
  }
  write_msr(processor_.get(), {run_->msr.index, run_->msr.data});
  if (synic_ != nullptr) synic_->end_of_message(index_);
  return std::nullopt;
}

/// The kernel keeps the parameters.
CrashExit KvmVirtualProcessor::describe_crash() {
  std::array<std::uint64_t, 5> parameters{};
  for (std::uint32_t index = 0; index < parameters.size(); ++index) {
    parameters[index] = read_msr(processor_.get(), kMsrCrashP0 + index).value_or(0);
  }
  return read_crash(partition_.guest_memory(), parameters, run_->msr.data);
}

void KvmVirtualProcessor::split_port_exit() {
  const auto& io = run_->io;
  auto* data = static_cast<std::uint8_t*>(shared_.start()) + io.data_offset;
  const bool write = io.direction == KVM_EXIT_IO_OUT;
  unfinished_ = true;
  for (std::uint32_t element = 0; element < io.count; ++element, data += io.size) {
    std::uint32_t value = 0;
    if (write) std::memcpy(&value, data, io.size);
    pieces_.push_back(
        {PortExit{.port = io.port, .size = io.size, .write = write, .data = value}, data, io.size, write});
  }
}

void KvmVirtualProcessor::split_mmio_exit() {
  auto& mmio = run_->mmio;
  const bool write = mmio.is_write != 0;
  unfinished_ = true;
  for (std::uint32_t offset = 0; offset < mmio.len;) {
    std::uint32_t size = 8;
    while (size > mmio.len - offset) size /= 2;
    std::uint64_t value = 0;
    if (write) std::memcpy(&value, mmio.data + offset, size);
    pieces_.push_back({MmioExit{.address = mmio.phys_addr + offset,
                                .size = static_cast<std::uint8_t>(size),
                                .write = write,
                                .data = value},
                       mmio.data + offset, static_cast<std::uint8_t>(size), write});
    offset += size;
  }
}

FailureExit KvmVirtualProcessor::describe_internal_error() {
  kvm_regs registers = {};
  ioctl(processor_.get(), KVM_GET_REGS, &registers);
  std::string why = run_->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
                        ? std::string("KVM cannot emulate an instruction")
                        : fmt::format("KVM had internal error {}", run_->internal.suberror);
  why += fmt::format(" at RIP {:#x}", static_cast<std::uint64_t>(registers.rip));
  const auto& emulation = run_->emulation_failure;
  if (run_->internal.suberror == KVM_INTERNAL_ERROR_EMULATION && emulation.ndata >= 3 &&
      (emulation.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0) {
    why += ":";
    const std::size_t count = std::min<std::size_t>(emulation.insn_size, sizeof(emulation.insn_bytes));
    for (std::size_t index = 0; index < count; ++index) why += fmt::format(" {:02x}", emulation.insn_bytes[index]);
  }
  return FailureExit{why};
}

Result<> KvmVirtualProcessor::reach_instruction_boundary() {
  if (pieces_.empty() && !reading_) {
    const auto more = finish_access();
    if (!more) return std::unexpected(more.error());
    if (!*more) return {};
    // The exit is not lost: what is in the shared page is translated again by the next run.
    pieces_.clear();
    translate_again_ = true;
  }
  return fail("the registers cannot be used in the middle of an instruction");
}

Result<> KvmVirtualProcessor::set_registers(std::span<const RegisterAssignment> assignments) {
  if (auto between = reach_instruction_boundary(); !between) return between;
  if (auto written = write_registers(processor_.get(), assignments); !written) return written;
  for (const auto& assignment : assignments) {
    if (frozen_ && assignment.name == abi::RegisterName::Tsc) frozen_->counter = assignment.value.number;
    if (frozen_ && assignment.name == abi::RegisterName::TscDeadline) frozen_->deadline = assignment.value.number;
  }
  return {};
}

Result<> KvmVirtualProcessor::get_registers(std::span<RegisterAssignment> assignments) {
  if (auto between = reach_instruction_boundary(); !between) return between;
  if (auto read = read_registers(processor_.get(), index_, assignments); !read) return read;
  // KVM's own clocks go on while time stands still here.
  for (auto& assignment : assignments) {
    if (frozen_ && assignment.name == abi::RegisterName::Tsc) assignment.value.number = frozen_->counter;
    if (const auto time = partition_.frozen_at(); time && assignment.name == abi::RegisterName::TimeReferenceCount) {
      assignment.value.number = *time;
    }
  }
  return {};
}

Result<> KvmVirtualProcessor::freeze(std::uint64_t host_counter) {
  auto frozen = freeze_processor(processor_.get(), host_counter);
  if (!frozen) return std::unexpected(frozen.error());
  frozen_ = *frozen;
  return {};
}

Result<> KvmVirtualProcessor::thaw(std::uint64_t host_counter) {
  if (!frozen_) return {};
  auto thawed = thaw_processor(processor_.get(), *frozen_, host_counter);
  frozen_.reset();
  return thawed;
}

Result<> KvmVirtualProcessor::check_frozen() const {
  return frozen_ ? Result<>() : fail("a processor is saved and restored only while the partition's time stands still");
}

Result<state::SavedUnit> KvmVirtualProcessor::save() {
  if (auto frozen = check_frozen(); !frozen) return std::unexpected(frozen.error());
  if (auto between = reach_instruction_boundary(); !between) return std::unexpected(between.error());
  return save_processor({partition_.machine(), processor_.get(), index_, partition_.host(), cpuid_}, *frozen_);
}

Result<> KvmVirtualProcessor::restore(const state::SavedUnit& saved) {
  if (auto frozen = check_frozen(); !frozen) return frozen;
  const auto time =
      restore_processor({partition_.machine(), processor_.get(), index_, partition_.host(), cpuid_}, saved);
  if (!time) return std::unexpected(time.error().within(fmt::format("cannot restore virtual processor {}", index_)));
  frozen_ = *time;
  if (synic_ != nullptr) {
    const auto value = [&](std::uint32_t msr) { return read_msr(processor_.get(), msr).value_or(0); };
    synic_->registers_restored(index_, value(abi::kMsrScontrol), value(abi::kMsrSimp), value(abi::kMsrSiefp));
  }
  return {};
}

}  // namespace bulkhead::engine::kvm
