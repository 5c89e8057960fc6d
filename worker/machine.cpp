// SPDX-License-Identifier: Apache-2.0
#include "worker/machine.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <boost/asio/post.hpp>
#include <chrono>
#include <iterator>
#include <utility>

#include "firmware/firmware.hpp"
#include "firmware/memory_layout.hpp"
#include "worker/host_memory.hpp"
#include "worker/last_words.hpp"

namespace bulkhead::worker {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr abi::vmbus::ChannelId kDynamicMemoryChannel{1024};
/// For what a guest may still do after it has reported its panic.
constexpr std::chrono::seconds kTimeForLastWords{2};

vdev::RtcMemorySizes split(std::uint64_t memory_size) {
  const std::uint64_t low = std::min(memory_size, firmware::kLowMemoryLimit);
  return {.below_4_gib = low, .above_4_gib = memory_size - low};
}

}  // namespace

Machine::Machine(boost::asio::io_context& event_loop, engine::Engine& engine, MachineObserver& observer,
                 MachineSettings settings)
    : event_loop_(event_loop),
      work_(event_loop.get_executor()),
      engine_(engine),
      observer_(observer),
      settings_(std::move(settings)),
      last_words_(event_loop),
      alive_(std::make_shared<bool>(true)) {
  if (!settings_.disks.empty() || settings_.dynamic_memory) settings_.vmbus = true;
}

Machine::~Machine() { take_down(); }

Result<std::unique_ptr<Machine>> Machine::create(boost::asio::io_context& event_loop, engine::Engine& engine,
                                                 MachineObserver& observer, MachineSettings settings) {
  std::unique_ptr<Machine> machine(new Machine(event_loop, engine, observer, std::move(settings)));
  if (auto checked = machine->check_processors(); !checked) return std::unexpected(checked.error());
  if (auto made = machine->make_memory(); !made) return std::unexpected(made.error());
  if (auto made = machine->make_motherboard(); !made) return std::unexpected(made.error());
  if (auto made = machine->make_vmbus(); !made) return std::unexpected(made.error());
  if (auto made = machine->make_dynamic_memory(); !made) return std::unexpected(made.error());
  if (auto made = machine->make_storage(); !made) return std::unexpected(made.error());
  if (auto booted = machine->boot(); !booted) return std::unexpected(booted.error());
  return machine;
}

Result<> Machine::check_processors() const {
  const auto maximum = engine_.capabilities().maximum_vps;
  if (settings_.vp_count > 0 && settings_.vp_count <= maximum) return {};
  return fail(fmt::format("{} processors were asked for; the {} engine gives 1 to {}", settings_.vp_count,
                          engine_.capabilities().name, maximum));
}

Result<> Machine::make_memory() {
  const std::uint64_t size = settings_.memory_size;
  if (size < kMiB || size % kMiB != 0) return fail("the memory size must be a multiple of 1 MiB");
  if (auto available = check_memory_is_available(size); !available) return available;
  const std::uint64_t maximum = settings_.dynamic_memory ? settings_.dynamic_memory->maximum : size;
  if (maximum < size) return fail("the most memory is less than that at the start");
  auto firmware = MachineFirmware::open({.kernel = std::move(settings_.kernel),
                                         .initrd = std::move(settings_.initrd),
                                         .bios = std::move(settings_.bios),
                                         .boot_rom = std::move(settings_.boot_rom),
                                         .kernel_arguments = settings_.kernel_arguments});
  if (!firmware) return std::unexpected(firmware.error());
  firmware_ = std::move(*firmware);
  auto ranges = memory_ranges(size, maximum);
  std::ranges::copy(firmware_.memory_ranges(), std::back_inserter(ranges));
  auto memory = engine::GuestMemory::allocate(ranges);
  if (!memory) return std::unexpected(memory.error());
  memory_ = std::move(*memory);
  return {};
}

Result<> Machine::make_motherboard() {
  auto motherboard = Motherboard::create(event_loop_, lock_, *this,
                                         {.memory = split(settings_.memory_size),
                                          .debug_exit = settings_.debug_exit,
                                          .bios_memory = firmware_.has_bios() ? memory_.get() : nullptr,
                                          .com1 = std::move(settings_.com1),
                                          .com2 = std::move(settings_.com2)});
  if (!motherboard) return std::unexpected(motherboard.error());
  motherboard_ = std::move(*motherboard);
  return {};
}

Result<> Machine::make_vmbus() {
  const bool possible = engine_.capabilities().synic;
  if (!settings_.vmbus.value_or(possible)) return {};
  if (!possible) {
    return fail(fmt::format("{} SynICs, which the {} engine does not have here",
                            settings_.disks.empty() ? "VMBus needs" : "disks are on VMBus, which needs",
                            engine_.capabilities().name));
  }
  auto handover = Handover::create(event_loop_);
  if (!handover) return std::unexpected(handover.error());
  vmbus_ = std::make_unique<VmbusHost>(lock_, std::move(*handover), *memory_, settings_.vp_count);
  if (auto added = motherboard_->units().add(vmbus_->bus()); !added) return added;
  IntegrationObserver& observer = *this;
  const bool tells_time = engine_.capabilities().reference_time;
  integration_ =
      std::make_unique<IntegrationServices>(settings_.integration, motherboard_->clock(), motherboard_->wall_clock(),
                                            tells_time ? vmbus_.get() : nullptr, observer);
  return integration_->offer(vmbus_->bus(), motherboard_->units());
}

Result<> Machine::make_dynamic_memory() {
  if (!settings_.dynamic_memory) return {};
  if (!engine_.capabilities().takes_memory) {
    return fail(
        fmt::format("dynamic memory needs an engine that can take memory back from a guest, which the {} engine "
                    "cannot",
                    engine_.capabilities().name));
  }
  const auto limits = memory_limits(settings_.memory_size, *settings_.dynamic_memory);
  if (!limits) return std::unexpected(limits.error());
  memory_port_.emplace(*memory_);
  dynamic_memory_ = std::make_unique<vsp::memory::DynamicMemory>(
      motherboard_->clock(), memory_port_->account(), *limits, *memory_port_, [this] {
        const std::uint64_t bytes = dynamic_memory_->account().assigned() * 4096;
        tell_observer([bytes](MachineObserver& observer) { observer.memory_changed(bytes); });
      });
  auto offered = vmbus_->bus().offer(vsp::memory::DynamicMemory::offer(), *dynamic_memory_, kDynamicMemoryChannel);
  if (!offered) return std::unexpected(offered.error());
  return motherboard_->units().add(*dynamic_memory_, {"clock", "vmbus"});
}

Result<> Machine::make_storage() {
  if (!vmbus_) return {};
  auto storage =
      MachineStorage::create(event_loop_, lock_, *memory_, {.machine = settings_.name, .vp_count = settings_.vp_count},
                             [this](const std::string& why) { pause_for_full_host(why); });
  if (!storage) return std::unexpected(storage.error());
  storage_ = std::move(*storage);
  for (auto& disk : settings_.disks) {
    if (auto attached = storage_->attach(std::move(disk)); !attached) return std::unexpected(attached.error());
  }
  settings_.disks.clear();
  std::lock_guard lock(lock_);
  return storage_->connect(vmbus_->bus(), motherboard_->units());
}

Result<std::uint8_t> Machine::attach_disk(DiskAttachment disk) {
  if (!storage_) return fail("the machine has no VMBus, which disks need");
  return storage_->attach(std::move(disk));
}

Result<> Machine::detach_disk(std::uint8_t number, std::function<void(Result<>)> gone) {
  if (!storage_) return fail("the machine has no VMBus, and so no disks");
  return storage_->detach(number, std::move(gone));
}

Result<> Machine::grow_disk(std::uint8_t number, std::uint64_t size) {
  if (!storage_) return fail("the machine has no VMBus, and so no disks");
  {
    std::lock_guard lock(lock_);
    if (requested_) return fail("the machine is just ending or restarting");
  }
  return storage_->grow(number, size, !paused_);
}

Result<> Machine::set_disk_limits(std::uint8_t number, vsp::storage::Limits limits) {
  if (!storage_) return fail("the machine has no VMBus, and so no disks");
  return storage_->set_limits(number, limits);
}

void Machine::pause_for_full_host(const std::string& why) {
  // Called in the midst of a disk's work: the pause, which waits for the end of all such work, comes after it.
  boost::asio::post(event_loop_, [this, why, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    observer_.host_is_full(why);
    static_cast<void>(pause());  // if it is paused or ends already, there is nothing to do
  });
}

Result<> Machine::make_partition() {
  auto partition = engine_.create_partition(
      {.vp_count = settings_.vp_count, .synic = vmbus_ != nullptr, .memory_changes = dynamic_memory_ != nullptr});
  if (!partition) return std::unexpected(partition.error());
  partition_ = std::move(*partition);
  if (auto mapped = partition_->map_memory(*memory_); !mapped) return mapped;
  for (std::uint32_t index = 0; index < settings_.vp_count; ++index) {
    auto vp = partition_->create_vp(index);
    if (!vp) return std::unexpected(vp.error());
    processors_.push_back(std::make_unique<ProcessorThread>(std::move(*vp), static_cast<ExitHandler&>(*this)));
  }
  return {};
}

Result<> Machine::boot() {
  auto registers = firmware_.load(
      *memory_, {.vp_count = settings_.vp_count, .vmbus = vmbus_ != nullptr}, motherboard_->firmware_configuration(),
      [this](const Error& error) { request({.kind = EndingKind::Failed, .detail = error.message()}); });
  if (!registers) return std::unexpected(registers.error());
  if (auto made = make_partition(); !made) return made;
  return registers->empty() ? Result<>() : processors_.front()->vp().set_registers(*registers);
}

Result<> Machine::start() {
  {
    std::lock_guard lock(lock_);
    motherboard_->interrupts().connect(*partition_, processors_.front()->vp());
    if (vmbus_) vmbus_->connect(*partition_);
    if (memory_port_) memory_port_->connect(*partition_);
    motherboard_->units().start();
    started_at_ = motherboard_->clock().now();
  }
  return run_processors();
}

Result<> Machine::run_processors() {
  for (auto& processor : processors_) {
    if (auto started = processor->start(); !started) {
      take_down();
      return started;
    }
  }
  return {};
}

void Machine::stop_processors() {
  for (auto& processor : processors_) processor->request_stop();
  for (auto& processor : processors_) processor->stop();
}

Result<> Machine::pause() {
  {
    std::lock_guard lock(lock_);
    if (paused_) return fail("the machine is paused already");
    if (requested_) return fail("the machine is just ending or restarting");
  }
  stop_processors();
  {
    std::lock_guard lock(lock_);
    motherboard_->units().stop();
    paused_ = true;
  }
  observer_.paused();
  return {};
}

Result<> Machine::resume() {
  {
    std::lock_guard lock(lock_);
    if (!paused_) return fail("the machine is not paused");
    if (requested_) return fail("the machine is just ending or restarting");
    motherboard_->units().start();
    paused_ = false;
  }
  if (auto running = run_processors(); !running) {
    end(running.error().message());
    return running;
  }
  observer_.resumed();
  return {};
}

void Machine::take_down() {
  stop_processors();
  std::lock_guard lock(lock_);
  paused_ = false;
  if (motherboard_) {
    motherboard_->units().stop();
    motherboard_->interrupts().disconnect();
    if (vmbus_) vmbus_->disconnect();
    if (memory_port_) memory_port_->disconnect();
  }
  processors_.clear();
  partition_.reset();
}

Result<> Machine::restart() {
  {
    std::lock_guard lock(lock_);
    motherboard_->units().reset();
    requested_.reset();
    paused_ = false;
    ++restarts_;
    panic_.reset();
  }
  if (auto booted = boot(); !booted) return booted;
  return start();
}

void Machine::end(std::string why) {
  std::lock_guard lock(lock_);
  request({.kind = EndingKind::Stopped, .detail = std::move(why)});
}

void Machine::turn_off() {
  std::lock_guard lock(lock_);
  request({.kind = EndingKind::PoweredOff, .detail = "from outside"});
}

void Machine::reset() {
  std::lock_guard lock(lock_);
  request({.kind = EndingKind::Reset, .detail = "from outside"});
}

control::MachineFacts Machine::facts() {
  std::lock_guard lock(lock_);
  const auto uptime = motherboard_->clock().now() - started_at_;
  return {.name = settings_.name,
          .engine = engine_.capabilities().name,
          .vp_count = settings_.vp_count,
          .memory_size = settings_.memory_size,
          .paused = paused_,
          .uptime_milliseconds = static_cast<std::uint64_t>(uptime / std::chrono::milliseconds(1)),
          .restarts = restarts_};
}

template <typename Function>
void Machine::tell_observer(Function function) {
  boost::asio::post(event_loop_, [this, function, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) function(observer_);
  });
}

void Machine::heartbeat_changed(vsp::integration::HeartbeatState state) {
  tell_observer([state](MachineObserver& observer) { observer.heartbeat_changed(state); });
}

void Machine::file_systems_let_go() {
  tell_observer([](MachineObserver& observer) { observer.file_systems_let_go(); });
}

void Machine::inspect(state::Inspection& node) {
  std::lock_guard lock(lock_);
  motherboard_->units().inspect(node);
}

bool Machine::handle_exit(engine::VirtualProcessor& vp, const engine::Exit& exit) {
  std::lock_guard lock(lock_);
  if (const auto* port = std::get_if<engine::PortExit>(&exit)) {
    if (port->write) {
      motherboard_->ports().write(port->port, port->size, port->data);
    } else {
      vp.complete_read(motherboard_->ports().read(port->port, port->size));
    }
  } else if (const auto* mmio = std::get_if<engine::MmioExit>(&exit)) {
    if (mmio->write) {
      motherboard_->mmio().write(mmio->address, mmio->size, mmio->data);
    } else {
      vp.complete_read(motherboard_->mmio().read(mmio->address, mmio->size));
    }
  } else {
    handle_rare_exit(vp, exit);
  }
  return !requested_.has_value();
}

void Machine::handle_rare_exit(engine::VirtualProcessor& vp, const engine::Exit& exit) {
  if (const auto* end = std::get_if<engine::EoiExit>(&exit)) {
    motherboard_->ioapic().end_of_interrupt(end->vector);
  } else if (std::holds_alternative<engine::InterruptWindowExit>(exit)) {
    if (auto injected = motherboard_->interrupts().open_window(vp, motherboard_->pic()); !injected) {
      request({.kind = EndingKind::Failed, .detail = injected.error().message()});
    }
  } else if (std::holds_alternative<engine::TripleFaultExit>(exit)) {
    request({.kind = EndingKind::TripleFault, .detail = fmt::format("processor {}", vp.index())});
  } else if (std::holds_alternative<engine::ResetExit>(exit)) {
    request_reset("the hypervisor's reset register");
  } else if (const auto* crash = std::get_if<engine::CrashExit>(&exit)) {
    request(ending_of(*crash));
  } else if (const auto* failure = std::get_if<engine::FailureExit>(&exit)) {
    request({.kind = EndingKind::Failed, .detail = fmt::format("processor {}: {}", vp.index(), failure->why)});
  }
}

void Machine::handle_engine_failure(engine::VirtualProcessor& vp, const Error& error) {
  std::lock_guard lock(lock_);
  request({.kind = EndingKind::Failed, .detail = fmt::format("processor {}: {}", vp.index(), error.message())});
}

void Machine::request_reset(std::string_view why) { request({.kind = EndingKind::Reset, .detail = std::string(why)}); }

void Machine::request_power_off(std::string_view why) {
  request({.kind = EndingKind::PoweredOff, .detail = std::string(why)});
}

void Machine::request_exit(std::uint32_t value) { request({.kind = EndingKind::Exited, .value = value}); }

/// The guest has more to say: by the crash registers, with which it gives its kernel's last words. Until then, or until it has had time
/// for that, it goes on; whatever else ends it meanwhile, it has panicked.
void Machine::report_panic(std::string_view how) {
  if (panic_) return;
  panic_ = Ending{.kind = EndingKind::Panicked, .detail = std::string(how)};
  boost::asio::post(event_loop_, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    last_words_.expires_after(kTimeForLastWords);
    last_words_.async_wait([this, alive](const boost::system::error_code& error) {
      if (error || alive.expired()) return;
      std::lock_guard lock(lock_);
      if (panic_) request(*panic_);
    });
  });
}

void Machine::request(Ending ending) {
  if (requested_) return;
  if (panic_ && ending.kind != EndingKind::Panicked && ending.kind != EndingKind::Stopped) ending = *panic_;
  panic_.reset();
  requested_ = std::move(ending);
  for (auto& processor : processors_) processor->request_stop();
  boost::asio::post(event_loop_, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) carry_out_request();
  });
}

void Machine::carry_out_request() {
  take_down();
  Ending ending = *requested_;
  const bool is_reset = ending.kind == EndingKind::Reset || ending.kind == EndingKind::TripleFault;
  if (is_reset && settings_.restart_on_reset) {
    if (auto restarted = restart(); restarted)
      return observer_.restarted(to_line(ending));
    else
      ending = {.kind = EndingKind::Failed, .detail = restarted.error().within("cannot restart").message()};
  }
  motherboard_->flush_serial_ports();
  if (storage_) {
    if (auto closed = storage_->close(); !closed) ending.detail += "; " + closed.error().message();
  }
  observer_.ended(ending);
}

}  // namespace bulkhead::worker
