// SPDX-License-Identifier: Apache-2.0
//
// Tries the driver by its own interface, in the root partition: a partition of one page of code that runs to a port
// write, what is refused and how, how a run is ended from outside, and that everything goes back in whatever order
// descriptors are closed and however the process ends. Prints PASS and FAIL lines; the exit status is 1 if there is a
// FAIL.
//
//   driver-check [CYCLES]     CYCLES: how often the create, run and destroy cycle is repeated for the memory figures
//   (20)
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "abi/intercept_message.hpp"
#include "abi/register.hpp"
#include "abi/register_page.hpp"
#include "abi/vid.h"

namespace {

using namespace bulkhead::abi;

int failures = 0;

void check(bool good, const std::string& what) {
  std::printf("%s %s%s\n", good ? "PASS" : "FAIL", what.c_str(),
              good ? "" : (std::string(": ") + std::strerror(errno)).c_str());
  std::fflush(stdout);
  failures += good ? 0 : 1;
}

void check_refused(int result, int error, const std::string& what) {
  const int found = errno;
  const bool good = result == -1 && found == error;
  if (!good) std::printf("     returned %d, errno %d (%s)\n", result, result == -1 ? found : 0, std::strerror(found));
  check(good, what + " is refused with " + ::strerrorname_np(error));
}

class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    close();
    number_ = std::exchange(other.number_, -1);
    return *this;
  }
  ~Descriptor() { close(); }
  void close() {
    if (number_ >= 0) ::close(std::exchange(number_, -1));
  }
  int get() const { return number_; }

 private:
  int number_;
};

template <typename Request>
int call(const Descriptor& on, unsigned long command, Request request) {
  return ::ioctl(on.get(), command, &request);
}
int call(const Descriptor& on, unsigned long command) { return ::ioctl(on.get(), command, 0); }

hv_bulkhead_information information(const Descriptor& device) {
  bulkhead_information result{};
  ::ioctl(device.get(), BULKHEAD_GET_INFORMATION, &result);
  return result.hypervisor;
}

constexpr std::uint64_t kCodeAddress = 0x1000;
constexpr std::size_t kMemorySize = 4u << 20;
constexpr std::uint16_t kPort = 0xe9;
constexpr std::uint8_t kPortWrite[] = {0xb0, 0x42, 0xe6, kPort};  // mov al, 42; out e9, al
constexpr std::uint8_t kSpin[] = {0xeb, 0xfe};                    // jmp to itself
constexpr std::uint8_t kHalt[] = {0xfa, 0xf4};                    // cli; hlt

std::byte* allocate(std::size_t size, int protection = PROT_READ | PROT_WRITE) {
  void* memory = ::mmap(nullptr, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
}

/// A partition with memory from 0 on and one VP in real mode at its code.
struct Child {
  std::byte* memory;
  bool owns_memory;
  Descriptor memory_object, partition, vp;
  InterceptMessage* message = nullptr;
  RegisterPage* registers = nullptr;
  void* pages = MAP_FAILED;

  /// In memory of its own, or in the caller's.
  Child(const Descriptor& device, std::span<const std::uint8_t> code, std::byte* place = nullptr)
      : memory(place ? place : allocate(kMemorySize)), owns_memory(place == nullptr) {
    std::memcpy(memory + kCodeAddress, code.data(), code.size());
    memory_object =
        Descriptor(call(device, BULKHEAD_CREATE_MEMORY,
                        bulkhead_create_memory{reinterpret_cast<std::uint64_t>(memory), kMemorySize, 0, 0}));
    partition = Descriptor(
        call(device, BULKHEAD_CREATE_PARTITION, bulkhead_create_partition{HV_PARTITION_CREATION_LAPIC_PRESENT, {}}));
    call(partition, BULKHEAD_INITIALIZE_PARTITION);
    call(partition, BULKHEAD_MAP_MEMORY, mapping());
    intercept_ports();
    vp = Descriptor(call(partition, BULKHEAD_CREATE_VP, bulkhead_create_vp{0, 0}));
    pages = ::mmap(nullptr, BULKHEAD_VP_MMAP_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, vp.get(), 0);
    if (pages == MAP_FAILED) return;
    registers = static_cast<RegisterPage*>(pages);
    message = reinterpret_cast<InterceptMessage*>(static_cast<std::byte*>(pages) + 4096);
    start_at_code();
  }
  Child(const Child&) = delete;
  ~Child() {
    if (pages != MAP_FAILED) ::munmap(pages, BULKHEAD_VP_MMAP_SIZE);
    if (memory && owns_memory) ::munmap(memory, kMemorySize);
  }

  bool good() const { return memory_object.get() >= 0 && partition.get() >= 0 && vp.get() >= 0 && registers; }

  bulkhead_map_memory mapping() const {
    return {static_cast<std::uint32_t>(memory_object.get()),
            HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE | HV_MAP_GPA_KERNEL_EXECUTABLE | HV_MAP_GPA_USER_EXECUTABLE, 0, 0,
            kMemorySize};
  }

  void intercept_ports() {
    hv_install_intercept input{0, HV_INTERCEPT_ACCESS_READ | HV_INTERCEPT_ACCESS_WRITE, HV_INTERCEPT_TYPE_IO_PORT_RANGE,
                               0xffffull << 16};
    call(partition, BULKHEAD_HYPERCALL,
         bulkhead_hypercall{HV_CALL_INSTALL_INTERCEPT, 0, sizeof(input), reinterpret_cast<std::uint64_t>(&input), 0, 0,
                            0});
  }

  int set(std::span<hv_register_assignment> list) {
    return call(vp, BULKHEAD_SET_VP_REGISTERS,
                bulkhead_vp_registers{static_cast<std::uint32_t>(list.size()), 0, 0, 0, 0,
                                      reinterpret_cast<std::uint64_t>(list.data())});
  }

  static hv_register_assignment number(RegisterName name, std::uint64_t value) {
    return {static_cast<std::uint32_t>(name), {}, {value, 0}};
  }

  int start_at_code() {
    RegisterValue segment{};
    segment.segment = {0, 0xffff, 0, 0x9b};
    hv_register_assignment list[] = {
        {static_cast<std::uint32_t>(RegisterName::Cs), {}, segment.raw},
        number(RegisterName::Rip, kCodeAddress),
        number(RegisterName::ExplicitSuspend, 0),
    };
    return set(list);
  }

  int run() { return call(vp, BULKHEAD_RUN_VP); }
};

bool runs_to_port(Child& child) {
  if (!child.registers) return false;
  const int result = child.run();
  if (result != BULKHEAD_RUN_INTERCEPT || child.message->header.type != MessageType::IoPort) {
    std::printf("     RUN_VP returned %d, message %#x\n", result, static_cast<unsigned>(child.message->header.type));
    return false;
  }
  return child.message->io_port.port == kPort && (child.message->io_port.rax & 0xff) == 0x42;
}

void test_run(const Descriptor& device) {
  Child child(device, kPortWrite);
  check(child.good(), "a partition with memory and a VP");
  check(runs_to_port(child), "the VP runs to its port write");
  check(child.registers->valid && child.registers->rip == kCodeAddress + 2, "the register page shows where it is");
  hv_register_assignment rax[] = {Child::number(RegisterName::Rax, 0)};
  bulkhead_vp_registers request{1, 0, 0, 0, 0, reinterpret_cast<std::uint64_t>(rax)};
  check(::ioctl(child.vp.get(), BULKHEAD_GET_VP_REGISTERS, &request) == 0 && (rax[0].value.low & 0xff) == 0x42,
        "a register can be read by name");
  child.registers->rip = kCodeAddress;
  child.registers->dirty |= kDirtyInstructionPointer;
  check(runs_to_port(child), "a new RIP by the register page takes it there");

  hv_register_assignment unknown[] = {Child::number(RegisterName::Rax, 1), {0x7fffffff, {}, {0, 0}}};
  request = {2, 0, 0, 0, 0, reinterpret_cast<std::uint64_t>(unknown)};
  check(::ioctl(child.vp.get(), BULKHEAD_SET_VP_REGISTERS, &request) == -1 && errno == EIO && request.done == 1 &&
            request.status != 0,
        "an unknown register ends the list with EIO, after the one before it");
}

int transfer_state(const Descriptor& vp, unsigned long command, std::uint32_t type, void* state, std::size_t size) {
  return call(
      vp, command,
      bulkhead_vp_state{type, 0, 0, static_cast<std::uint32_t>(size), 0, reinterpret_cast<std::uint64_t>(state)});
}

/// What a VP is beyond its registers, and what of its memory it writes.
void test_state(const Descriptor& device) {
  Child child(device, kPortWrite);
  hv_local_interrupt_controller_state apic{};
  check(transfer_state(child.vp, BULKHEAD_GET_VP_STATE, HV_VP_STATE_LOCAL_APIC, &apic, sizeof apic) == 0 &&
            apic.apic_spurious == 0xff,
        "a local APIC can be read");
  apic.apic_irr[2] = 1;
  check(transfer_state(child.vp, BULKHEAD_SET_VP_STATE, HV_VP_STATE_LOCAL_APIC, &apic, sizeof apic) == 0, "and set");
  apic.apic_version = 0;
  check_refused(transfer_state(child.vp, BULKHEAD_SET_VP_STATE, HV_VP_STATE_LOCAL_APIC, &apic, sizeof apic), EIO,
                "a local APIC that no processor has");
  alignas(8) static std::byte area[HV_PAGE_SIZE];
  check(transfer_state(child.vp, BULKHEAD_GET_VP_STATE, HV_VP_STATE_XSAVE, area, sizeof area) == 0 &&
            transfer_state(child.vp, BULKHEAD_SET_VP_STATE, HV_VP_STATE_XSAVE, area, sizeof area) == 0,
        "extended state can be read and set");
  area[527] = std::byte{0x80};
  check_refused(transfer_state(child.vp, BULKHEAD_SET_VP_STATE, HV_VP_STATE_XSAVE, area, sizeof area), EIO,
                "extended state in the compacted form");
  hv_synthetic_timers_state timers{};
  check(transfer_state(child.vp, BULKHEAD_GET_VP_STATE, HV_VP_STATE_SYNTHETIC_TIMERS, &timers, sizeof timers) == 0 &&
            transfer_state(child.vp, BULKHEAD_SET_VP_STATE, HV_VP_STATE_SYNTHETIC_TIMERS, &timers, sizeof timers) == 0,
        "synthetic timers can be read and set");
  for (const std::size_t size : {std::size_t{0}, sizeof timers - 8, sizeof timers + 8}) {
    check_refused(transfer_state(child.vp, BULKHEAD_GET_VP_STATE, HV_VP_STATE_SYNTHETIC_TIMERS, &timers, size), EINVAL,
                  "another size");
  }
  check_refused(transfer_state(child.vp, BULKHEAD_GET_VP_STATE, HV_VP_STATE_XSAVE, area, sizeof area + 1), EINVAL,
                "more than a page");
  check_refused(transfer_state(child.vp, BULKHEAD_GET_VP_STATE, 77, area, sizeof area), EINVAL, "an unknown state");
  check_refused(transfer_state(child.vp, BULKHEAD_SET_VP_STATE, HV_VP_STATE_XSAVE, nullptr, 8), EFAULT,
                "state at a bad address");
  check_refused(call(child.vp, BULKHEAD_GET_VP_STATE, bulkhead_vp_state{HV_VP_STATE_XSAVE, 0, 1, 8, 0, 0}), EINVAL,
                "a reserved field");

  static std::uint8_t pages[kMemorySize / 4096];
  hv_get_gpa_pages_access_states input{0, HV_GPA_ACCESS_CLEAR_DIRTY, 0};
  bulkhead_hypercall access{HV_CALL_GET_GPA_PAGES_ACCESS_STATES,
                            0,
                            sizeof input,
                            reinterpret_cast<std::uint64_t>(&input),
                            sizeof pages,
                            sizeof pages,
                            reinterpret_cast<std::uint64_t>(pages)};
  const auto written = [&] {
    return call(child.partition, BULKHEAD_HYPERCALL, access) == 0
               ? std::count_if(pages, pages + sizeof pages, [](std::uint8_t page) { return page & HV_GPA_PAGE_DIRTY; })
               : -1;
  };
  check(written() >= 0, "all pages can be asked for in one call");
  check(runs_to_port(child) && written() == 0, "a guest that only runs writes nothing");
  access.repetitions = 0;
  check_refused(call(child.partition, BULKHEAD_HYPERCALL, access), EINVAL, "a list without its length");
  access.repetitions = sizeof pages - 1;
  check_refused(call(child.partition, BULKHEAD_HYPERCALL, access), EINVAL, "more output than the list has");
  access.repetitions = 0x1000;
  check_refused(call(child.partition, BULKHEAD_HYPERCALL, access), EINVAL, "a list longer than a call's");
  access.code = HV_CALL_GET_VP_CPUID_VALUES;
  access.repetitions = 100;
  check_refused(call(child.partition, BULKHEAD_HYPERCALL, access), EINVAL, "a list beyond the input");
}

void test_many_registers(const Descriptor& device) {
  Child child(device, kPortWrite);
  constexpr std::uint32_t kCount = 1000;
  static hv_register_assignment list[kCount];
  for (auto& assignment : list) assignment = Child::number(RegisterName::Rip, 0);
  bulkhead_vp_registers request{kCount, 0, 0, 0, 0, reinterpret_cast<std::uint64_t>(list)};
  check(::ioctl(child.vp.get(), BULKHEAD_GET_VP_REGISTERS, &request) == 0 && request.done == kCount &&
            list[kCount - 1].value.low == kCodeAddress,
        "1,000 registers in one call");
}

void test_refusals(const Descriptor& device) {
  const auto address = reinterpret_cast<std::uint64_t>(allocate(8192));
  const auto memory = [&](bulkhead_create_memory request) { return call(device, BULKHEAD_CREATE_MEMORY, request); };
  check_refused(memory({address, 0, 0, 0}), EINVAL, "memory of size 0");
  check_refused(memory({address + 1, 4096, 0, 0}), EINVAL, "memory that is not aligned");
  check_refused(memory({address, 100, 0, 0}), EINVAL, "memory of half a page");
  check_refused(memory({address, 4096, 0x80, 0}), EINVAL, "memory with unknown flags");
  check_refused(memory({address, 4096, 0, 1}), EINVAL, "memory with a reserved field");
  check_refused(memory({address, ~0xfffull, 0, 0}), EINVAL, "memory that wraps around");
  check_refused(memory({address, 1ull << 60, 0, 0}), ENOMEM, "more memory than there is");
  check_refused(memory({0x1000, 4096, 0, 0}), EFAULT, "memory that is not mapped");
  check_refused(memory({0xffffffff81000000, 4096, 0, 0}), EFAULT, "memory of the kernel");
  check_refused(call(device, BULKHEAD_CREATE_PARTITION, bulkhead_create_partition{0, {0, 1, 0}}), EINVAL,
                "a partition with a reserved field");
  check_refused(::ioctl(device.get(), BULKHEAD_CREATE_PARTITION, 0), EFAULT, "a request at address 0");
  check_refused(::ioctl(device.get(), BULKHEAD_RUN_VP, 0), ENOTTY, "RUN_VP on the device");

  Child child(device, kPortWrite);
  const auto map = [&](auto change) {
    bulkhead_map_memory request = child.mapping();
    request.gpa = 1u << 30;
    change(request);
    return call(child.partition, BULKHEAD_MAP_MEMORY, request);
  };
  check_refused(map([](auto& request) { request.gpa = 0; }), EEXIST, "a mapping where one is");
  check_refused(map([](auto& request) { request.gpa += 1; }), EINVAL, "a mapping that is not aligned");
  check_refused(map([](auto& request) { request.size = 0; }), EINVAL, "an empty mapping");
  check_refused(map([](auto& request) { request.size += 4096; }), EINVAL, "a mapping beyond the memory");
  check_refused(map([](auto& request) { request.offset = ~0xfffull; }), EINVAL, "a mapping with an offset that wraps");
  check_refused(map([](auto& request) { request.gpa = ~0xfffull; }), EINVAL, "a mapping that wraps");
  check_refused(map([](auto& request) { request.access = 0x100; }), EINVAL, "a mapping with unknown access");
  check_refused(map([](auto& request) { request.memory_fd = 9999; }), EBADF, "a mapping of no descriptor");
  check_refused(map([&](auto& request) { request.memory_fd = static_cast<std::uint32_t>(device.get()); }), EINVAL,
                "a mapping of another descriptor");
  check(map([](auto& request) { request.gpa = 1ull << 60; }) == -1, "a mapping outside the address space is refused");
  check_refused(call(child.partition, BULKHEAD_UNMAP_MEMORY, bulkhead_unmap_memory{0, 4096}), ENOENT,
                "unmapping a part of a mapping");
  check_refused(call(child.partition, BULKHEAD_UNMAP_MEMORY, bulkhead_unmap_memory{1u << 30, 4096}), ENOENT,
                "unmapping what is not mapped");
  check_refused(call(child.partition, BULKHEAD_CREATE_VP, bulkhead_create_vp{64, 0}), EINVAL, "VP 64");
  check_refused(call(child.partition, BULKHEAD_CREATE_VP, bulkhead_create_vp{0, 0}), EEXIST, "a second VP 0");
  check_refused(call(child.partition, BULKHEAD_CREATE_VP, bulkhead_create_vp{1, 1}), EINVAL,
                "a VP with a reserved field");
  std::uint64_t block[8] = {};
  const auto direct = [&](std::uint16_t code, std::uint32_t input, std::uint32_t output) {
    return call(child.partition, BULKHEAD_HYPERCALL,
                bulkhead_hypercall{code, 0, input, reinterpret_cast<std::uint64_t>(block), output, 0, 0});
  };
  check_refused(direct(HV_CALL_DELETE_PARTITION, 8, 0), EPERM, "a hypercall that is the driver's own");
  check_refused(direct(HV_CALL_GET_PARTITION_PROPERTY, 8, 8), EINVAL, "a hypercall with too little input");
  check_refused(direct(HV_CALL_INSTALL_INTERCEPT, 4097, 0), EINVAL, "a hypercall with more than a page of input");
  check_refused(direct(HV_CALL_INSTALL_INTERCEPT, 24, 4096), EINVAL, "a hypercall with more output than it has");
  check_refused(call(child.vp, BULKHEAD_SET_VP_REGISTERS, bulkhead_vp_registers{1, 0, 0, 0, 0, 0x10}), EFAULT,
                "registers at a bad address");
  check(::mmap(nullptr, 3 * 4096, PROT_READ, MAP_SHARED, child.vp.get(), 0) == MAP_FAILED,
        "mmap of three pages is refused");
  check(::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, child.vp.get(), 8192) == MAP_FAILED,
        "mmap of a third page is refused");
  check_refused(memory({reinterpret_cast<std::uint64_t>(child.pages), 4096, 0, 0}), EFAULT, "pinning a state page");
  ::munmap(reinterpret_cast<void*>(address), 8192);

  std::byte* constant = allocate(4096, PROT_READ);
  const auto constant_address = reinterpret_cast<std::uint64_t>(constant);
  check(memory({constant_address, 4096, 0, 0}) == -1, "memory without write access is refused");
  Descriptor read_only(memory({constant_address, 4096, BULKHEAD_MEMORY_READ_ONLY, 0}));
  check(read_only.get() >= 0, "memory without write access as read-only memory");
  check_refused(map([&](auto& request) {
                  request.memory_fd = static_cast<std::uint32_t>(read_only.get());
                  request.size = 4096;
                }),
                EINVAL, "a writable mapping of read-only memory");
  ::munmap(constant, 4096);
}

/// Runs the VP in a second thread and tells how that ended.
class Runner {
 public:
  explicit Runner(Child& child)
      : thread_([this, &child] {
          self_ = ::pthread_self();
          started_ = true;
          result_ = child.run();
          error_ = errno;
        }) {
    while (!started_) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  void signal() { ::pthread_kill(self_, SIGUSR1); }
  int join() {
    thread_.join();
    return result_ == -1 ? -error_ : result_;
  }

 private:
  pthread_t self_{};
  std::atomic<bool> started_ = false;
  int result_ = 0;
  int error_ = 0;
  std::thread thread_;
};

void test_stop(const Descriptor& device, std::span<const std::uint8_t> code, const std::string& which) {
  Child child(device, code);
  {
    Runner runner(child);
    check_refused(child.run(), EBUSY, "a second thread in a VP that " + which);
    call(child.vp, BULKHEAD_CANCEL_VP);
    check(runner.join() == BULKHEAD_RUN_CANCELLED, "CANCEL_VP ends the run of a VP that " + which);
  }
  {
    Runner runner(child);
    runner.signal();
    check(runner.join() == -EINTR, "a signal ends the run of a VP that " + which);
  }
  call(child.vp, BULKHEAD_CANCEL_VP);
  check(child.run() == BULKHEAD_RUN_CANCELLED, "CANCEL_VP before the run ends it at once");
}

void test_closing(const Descriptor& device) {
  const hv_bulkhead_information before = information(device);
  {
    Child child(device, kPortWrite);
    child.memory_object.close();
    child.partition.close();
    check(runs_to_port(child), "the VP's descriptor alone keeps all that it needs");
  }
  {
    Child child(device, kPortWrite);
    child.vp.close();
    child.partition.close();
    check(information(device).partitions == before.partitions + 1, "a mapped state page keeps the partition");
  }
  {
    Child child(device, kPortWrite);
    const pid_t process = ::fork();
    if (process == 0) ::_exit(0);
    ::waitpid(process, nullptr, 0);
    check(runs_to_port(child), "a forked process that ends takes nothing away");
  }
  const hv_bulkhead_information after = information(device);
  check(after.partitions == before.partitions && after.deposited_pages == before.deposited_pages,
        "nothing is left in the hypervisor");
}

void test_kill(const Descriptor& device) {
  const hv_bulkhead_information before = information(device);
  for (const auto code : {std::span<const std::uint8_t>(kSpin), std::span<const std::uint8_t>(kHalt)}) {
    const pid_t process = ::fork();
    if (process == 0) {
      Child child(device, code);
      child.run();
      ::_exit(0);
    }
    ::usleep(300000);
    ::kill(process, SIGKILL);
    ::waitpid(process, nullptr, 0);
  }
  const hv_bulkhead_information after = information(device);
  check(after.partitions == before.partitions && after.deposited_pages == before.deposited_pages,
        "SIGKILL of a process in RUN_VP leaves nothing");
}

/// A process that creates, runs and destroys without a pause is killed at whatever it is doing.
void test_random_kill(const Descriptor& device) {
  const hv_bulkhead_information before = information(device);
  std::minstd_rand random(1);
  for (int round = 0; round < 60; ++round) {
    const pid_t process = ::fork();
    if (process == 0) {
      for (;;) {
        Child child(device, round % 2 ? std::span<const std::uint8_t>(kPortWrite) : kSpin);
        if (child.good() && (round % 2 || round % 3)) child.run();
      }
    }
    ::usleep(random() % 40000);
    ::kill(process, SIGKILL);
    ::waitpid(process, nullptr, 0);
  }
  const hv_bulkhead_information after = information(device);
  check(after.partitions == before.partitions && after.deposited_pages == before.deposited_pages,
        "SIGKILL at random moments leaves nothing");
}

/// A figure of a file that has "NAME: VALUE kB" lines.
std::uint64_t kilobytes_of(const char* path, const std::string& name) {
  char line[128];
  std::uint64_t kilobytes = 0;
  std::FILE* file = std::fopen(path, "r");
  while (file && std::fgets(line, sizeof(line), file)) {
    unsigned long long value;
    if (std::sscanf(line, (name + ": %llu").c_str(), &value) == 1) kilobytes = value;
  }
  if (file) std::fclose(file);
  return kilobytes;
}
std::uint64_t free_memory() { return kilobytes_of("/proc/meminfo", "MemFree"); }
std::uint64_t pinned_memory() { return kilobytes_of("/proc/self/status", "VmPin"); }

void test_pinning(const Descriptor& device) {
  constexpr std::uint64_t kSize = 8u << 20;
  std::byte* memory = allocate(kSize);
  const auto address = reinterpret_cast<std::uint64_t>(memory);
  {
    const Descriptor pinned(call(device, BULKHEAD_CREATE_MEMORY, bulkhead_create_memory{address, kSize, 0, 0}));
    check(pinned.get() >= 0 && pinned_memory() == kSize / 1024, "pinned memory is on the process's account");
  }
  check(pinned_memory() == 0, "and no longer when it is closed");
  // The last page is not there: what was pinned before it goes back.
  ::munmap(memory + kSize - 4096, 4096);
  check_refused(call(device, BULKHEAD_CREATE_MEMORY, bulkhead_create_memory{address, kSize, 0, 0}), EFAULT,
                "memory whose last page is not mapped");
  check(pinned_memory() == 0, "after that nothing is pinned");
  ::munmap(memory, kSize - 4096);
}

void test_large_pages(const Descriptor& device, int flags, const std::string& which) {
  constexpr std::size_t kLarge = 2u << 20;
  void* place =
      ::mmap(nullptr, kMemorySize + kLarge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (place == MAP_FAILED) {
    std::printf("SKIP %s: there are none\n", which.c_str());
    return;
  }
  const auto start = (reinterpret_cast<std::uint64_t>(place) + kLarge - 1) & ~(kLarge - 1);
  ::madvise(reinterpret_cast<void*>(start), kMemorySize, MADV_HUGEPAGE);
  auto* memory = reinterpret_cast<std::byte*>(start);
  {
    Child child(device, kPortWrite, memory);
    check(runs_to_port(child), "a child in " + which);
  }
  check(pinned_memory() == 0, which + " are not pinned after it");
  ::munmap(place, kMemorySize + kLarge);
}

void test_cycles(const Descriptor& device, unsigned cycles) {
  const auto cycle = [&] {
    Child child(device, kPortWrite);
    return runs_to_port(child);
  };
  for (unsigned i = 0; i < 10; ++i) cycle();
  const hv_bulkhead_information before = information(device);
  const std::uint64_t free_before = free_memory();
  bool all = true;
  for (unsigned i = 0; i < cycles; ++i) all = cycle() && all;
  const hv_bulkhead_information after = information(device);
  const std::uint64_t free_after = free_memory();
  std::printf("     free in the root: %llu kB before, %llu kB after %u cycles\n",
              static_cast<unsigned long long>(free_before), static_cast<unsigned long long>(free_after), cycles);
  check(all, "every cycle of create, run and destroy works");
  check(before.root_pool_pages_available + before.root_pool_pages_in_use ==
                after.root_pool_pages_available + after.root_pool_pages_in_use &&
            before.deposited_pages == after.deposited_pages && before.partitions == after.partitions,
        "the cycles leave the hypervisor's figures the same");
  check(free_after + 2048 > free_before, "the cycles leave the root's memory the same");
}

}  // namespace

int main(int argument_count, char** arguments) {
  struct sigaction action{};
  action.sa_handler = [](int) {};
  ::sigaction(SIGUSR1, &action, nullptr);
  Descriptor device(::open(BULKHEAD_DEVICE, O_RDWR | O_CLOEXEC));
  check(device.get() >= 0, "the device opens");
  if (device.get() < 0) return 1;
  const hv_bulkhead_information facts = information(device);
  check(facts.abi_level == HV_BULKHEAD_ABI_LEVEL && facts.logical_processors > 0, "the hypervisor tells about itself");
  test_run(device);
  test_state(device);
  test_many_registers(device);
  test_refusals(device);
  test_stop(device, kSpin, "spins");
  test_stop(device, kHalt, "is halted");
  test_closing(device);
  test_kill(device);
  test_random_kill(device);
  test_pinning(device);
  test_large_pages(device, 0, "transparent large pages");
  test_large_pages(device, MAP_HUGETLB, "reserved large pages");
  test_cycles(device, argument_count > 1 ? static_cast<unsigned>(std::atoi(arguments[1])) : 20);
  return failures ? 1 : 0;
}
