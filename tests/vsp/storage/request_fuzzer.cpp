// SPDX-License-Identifier: Apache-2.0
//
// Storage requests of a hostile guest, made by structure: the input chooses operations, addresses, commands, sizes and
// when disks answer, fail, come and go. Beside the sanitizers: every request is answered once, and nothing is lost.
#include <algorithm>
#include <cerrno>

#include "tests/fuzz_input.hpp"
#include "tests/vsp/storage/storage_guest.hpp"

namespace {

using namespace bulkhead;
using namespace bulkhead::vsp::storage;

using fuzz::check;
using fuzz::Input;

constexpr std::uint8_t kOpcodes[] = {0x00, 0x03, 0x08, 0x0a, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2a, 0x2f,
                                     0x35, 0x41, 0x42, 0x43, 0x46, 0x4a, 0x51, 0x52, 0x5a, 0x5e, 0x5f, 0x88,
                                     0x8a, 0x8f, 0x91, 0x93, 0x9e, 0xa0, 0xa8, 0xaa, 0xad, 0xbd};

/// Small numbers, so that a command often means blocks that there are.
Bytes command(Input& input) {
  Bytes cdb = input.take(16);
  const std::uint8_t choice = input.byte();
  if (choice & 0x80) return cdb;
  cdb[0] = kOpcodes[choice % std::size(kOpcodes)];
  if (choice & 0x40) std::fill(cdb.begin() + 2, cdb.begin() + 8, std::uint8_t{0});
  return cdb;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  StorageGuest guest;
  TestDisk* disk = &guest.add_disk(0, 64 << 10);
  guest.add_disk(1, 64 << 10, {.operations_per_second = 10, .bytes_per_second = 1 << 16}, true);
  guest.add_dvd(2, std::make_unique<TestDisk>(64 << 10, 2048));
  guest.initialize(input.byte() & 1 ? abi::storage::Version::V6_2 : abi::storage::Version::V4_2);
  std::uint64_t asked = 0, answered = 0;
  const auto take_answers = [&] {
    while (auto packet = guest.channel().from_host.read()) {
      if (packet->descriptor.type == abi::vmbus::PacketType::Completion) ++answered;
    }
  };
  take_answers();
  answered = 0;
  while (!input.is_empty()) {
    const std::uint8_t what = input.byte();
    switch (what % 8) {
      case 0:
      case 1:
      case 2:
      case 3: {
        const auto direction = static_cast<DataDirection>(input.byte() % 4);
        const std::uint32_t bytes = what & 0x80 ? 0 : input.word() % (257 * 1024);
        const auto before = guest.channel().to_host.get(0);
        guest.send(command(input), direction, std::min<std::uint32_t>(bytes, 60 * 4096), input.byte() % 4);
        asked += guest.channel().to_host.get(0) != before;
        break;
      }
      case 4: {
        abi::storage::Packet packet{};
        packet.header.operation = static_cast<Operation>(input.byte() % 16);
        const Bytes body = input.take(52);
        std::copy(body.begin(), body.end(), static_cast<std::uint8_t*>(static_cast<void*>(&packet.scsi)));
        const Bytes payload = vmbus::bytes_of(packet);
        const std::size_t length = std::min<std::size_t>(input.byte(), payload.size());
        asked +=
            guest.channel().to_host.write(abi::vmbus::PacketType::InBand, 1, 9, {}, std::span(payload).first(length));
        guest.signal_and_run();
        break;
      }
      case 5:
        if (disk == nullptr) break;
        disk->holds = what & 0x10;
        disk->fails_with = what & 0x20 ? (what & 0x40 ? ENOSPC : EIO) : 0;
        disk->release_one();
        guest.host().run();
        break;
      case 6: guest.host().pass(std::chrono::milliseconds(what)); break;
      case 7:
        if ((what & 0x10) == 0) {
          take_answers();
          guest.signal_and_run();
        } else if (disk != nullptr && (what & 0x20) != 0) {
          disk->holds = false;
          disk->release_all();
          disk = nullptr;
          check(guest.controller().detach(0, [](const Result<>&) {}).has_value());
        } else if (disk == nullptr) {
          disk = &guest.add_disk(0, 64 << 10);
        } else {
          guest.host().on_wait = [&] { disk->release_all(); };
          guest.controller().stop();
          guest.controller().start();
        }
        guest.host().run();
        break;
    }
    if (guest.host().complaints.size() > 100) guest.host().complaints.clear();
  }
  // In the end the disk works again, the guest takes its answers, and each request has one.
  if (disk != nullptr) {
    disk->holds = false;
    disk->fails_with = 0;
    disk->release_all();
    guest.host().on_wait = nullptr;
  }
  for (unsigned round = 0; round < 64; ++round) {
    take_answers();
    guest.controller().stop();
    guest.controller().start();
    guest.signal_and_run();
    guest.host().pass(std::chrono::seconds(10));
  }
  take_answers();
  check(answered == asked);
  return 0;
}
