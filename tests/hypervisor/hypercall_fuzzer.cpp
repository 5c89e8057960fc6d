// SPDX-License-Identifier: Apache-2.0
//
// A root that calls anything with anything, and children that are run in between. Whatever it does, every access of the hypervisor
// stays in the machine's memory (the fake ends at any other), and the root never gets to see a frame by another's address.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "tests/hypervisor/fake_machine.hpp"

using namespace bulkhead::hypervisor;

namespace {

constexpr std::uint16_t kCodes[] = {0x40, 0x41, 0x42, 0x43, 0x44,   0x45, 0x47, 0x48, 0x49, 0x4a,
                                    0x4b, 0x4c, 0x4d, 0x4e, 0x4f,   0x50, 0x51, 0x91, 0x94, 0xc0,
                                    0xc1, 0xc2, 0xe1, 0xe2, 0x7f00, 0x99, 0xc9, 0xe3, 0xe4, 0xf4};
/// What children may call, the first two if their parent listens.
constexpr std::uint16_t kGuestCodes[] = {0x5c, 0x5d, 0x2, 0x3, 0x8, 0xb, 0x13, 0x14, 0x15, 0x42};

struct Reader {
  const std::uint8_t* data;
  std::size_t size;

  template <typename T>
  T next() {
    T value{};
    const std::size_t count = std::min(size, sizeof value);
    std::memcpy(&value, data, count);
    data += count;
    size -= count;
    return value;
  }
};

/// Two partitions that exist, so that calls get further than their first check.
struct Scene {
  fake::Machine machine;
  fake::Root root{machine};
  std::uint64_t partitions[2];

  Scene() {
    for (unsigned i = 0; i < 2; ++i) {
      const std::uint64_t id = partitions[i] = root.create_partition();
      root.deposit(id, fake::kDepositPage + 100 * i, 40);
      root.call(HV_CALL_INITIALIZE_PARTITION, hv_partition_id{id});
      root.map(id, 0, fake::kGuestPage + 16 * i, 8);
      root.create_vp(id, 0);
      root.set_register(id, 0, bulkhead::abi::RegisterName::ExplicitSuspend, 0);
    }
  }
};

/// The guest exits for anything.
void queue_exit(Scene& scene, Reader& reader) {
  if (scene.machine.hardware.empty()) return;
  fake::FakeVpHardware& hardware = **scene.machine.hardware.begin();
  Exit exit{};
  exit.reason =
      static_cast<ExitReason>(reader.next<std::uint8_t>() % (static_cast<unsigned>(ExitReason::InvalidState) + 1));
  exit.next_rip = reader.next<std::uint8_t>() & 1 ? hardware.rip + 2 : 0;
  if (exit.reason == ExitReason::NestedPageFault) {
    exit.memory.gpa = reader.next<std::uint8_t>() & 1 ? 0xfee00000 | (reader.next<std::uint16_t>() & 0xfff)
                                                      : reader.next<std::uint64_t>();
  } else if (exit.reason == ExitReason::Exception) {
    exit.exception.vector = reader.next<std::uint8_t>() & 31;
  } else if (exit.reason == ExitReason::Port) {
    exit.port = {.port = reader.next<std::uint16_t>(), .size = 1, .write = false, .string = false, .rep = false};
  }
  const auto a = reader.next<std::uint64_t>(), rip = reader.next<std::uint64_t>();
  auto c = reader.next<std::uint64_t>(), d = std::uint64_t{0};
  const bool plain = reader.next<std::uint8_t>() & 1;  // in a mode in which it may call
  // Registers and calls of the Hyper-V interface more often than not, with pages and input that are there.
  if (exit.reason == ExitReason::Hypercall && plain) {
    c = (c & ~0xffffull) | kGuestCodes[c % std::size(kGuestCodes)];
    d = (c & HV_HYPERCALL_FAST) ? a : a & 0x8ff8;
    if (!(c & 1)) c &= 0xffff'ffffull & ~(0xfull << 27);  // no repetitions
  } else if ((exit.reason == ExitReason::WriteMsr || exit.reason == ExitReason::ReadMsr) && plain) {
    d = a >> 33;
    c = 0x40000000 | (c & 0x1ff);
  }
  scene.machine.tsc += a & 0xffff;
  const auto cr0 = reader.next<std::uint64_t>(), cr3 = reader.next<std::uint64_t>(), cr4 = reader.next<std::uint64_t>();
  hardware.then(exit, [=](fake::FakeVpHardware& guest) {
    guest.general[0] = a;
    guest.general[1] = c;
    guest.general[2] = d;
    guest.general[8] = a;
    guest.rip = rip;
    guest.execution_mode.cr0 = cr0;
    guest.execution_mode.cr3 = cr3;
    guest.execution_mode.cr4 = cr4;
    guest.execution_mode.efer = cr4 >> 32 & 0x500;
    guest.execution_mode.cs.base = cr3 >> 32;
    guest.execution_mode.cs.attributes = static_cast<std::uint16_t>(cr0 >> 32);
    if (plain) {
      guest.execution_mode.cr0 |= 1;
      guest.execution_mode.efer = 0x500;
      guest.execution_mode.cs.attributes = 0xa09b;
    }
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Scene scene;
  Reader reader{data, size};
  for (unsigned round = 0; reader.size > 0 && round < 64; ++round) {
    const auto choice = reader.next<std::uint8_t>();
    if (choice & 0x80) queue_exit(scene, reader);
    std::uint64_t control = kCodes[(choice & 0x3f) % std::size(kCodes)];
    const auto reps = reader.next<std::uint16_t>();
    control |= std::uint64_t{reps & 0x3ffu} << 32 | std::uint64_t{reps & 0x8000u} << 1;
    // Those with a variable header: a page, or the timers' state.
    const auto code = static_cast<std::uint16_t>(control);
    if (code == HV_CALL_GET_VP_STATE) control = code | 1u << 17;
    if (code == HV_CALL_SET_VP_STATE) control = code | (reps & 1 ? 25u : 1u) << 17;
    if (choice & 0x40) control ^= std::uint64_t{reader.next<std::uint16_t>()} << 48;
    // Input: bytes as they come, but partition ids that exist more often than not.
    std::uint8_t input[288] = {};
    const std::size_t length = std::min<std::size_t>(reader.size, reader.next<std::uint8_t>() % 128);
    for (std::size_t i = 0; i < length; ++i) input[i] = reader.next<std::uint8_t>();
    if (!(input[0] & 0xc0)) std::memcpy(input, &scene.partitions[input[0] & 1], 8);
    std::memcpy(scene.machine.at(fake::Root::kInputPage), input, sizeof input);
    root::HypercallRegisters registers{
        .rax = 0, .rcx = control, .rdx = fake::Root::kInputPage, .r8 = fake::Root::kOutputPage, .again = false};
    if (registers.rcx & HV_HYPERCALL_FAST) {
      std::memcpy(&registers.rdx, input, 8);
      std::memcpy(&registers.r8, input + 8, 8);
    }
    for (unsigned entries = 0; entries < 200; ++entries) {
      root::hypercall(registers);
      if (!registers.again) break;
    }
  }
  // The root reaches its own page or the zero page, and nothing else, ever.
  for (const FrameRange& range : scene.machine.ram) {
    for (std::uint64_t page = range.first.number; page < range.first.number + range.count; page += 7) {
      const Frame frame = scene.machine.root_translates(page * kPageSize);
      if (frame != Frame{page} && frame != scene.machine.zero_frame) abort();
    }
  }
  return 0;
}
