// SPDX-License-Identifier: Apache-2.0
//
// What a BIOS asks its machine: which memory there is, which kernel to start. The interface is QEMU's fw_cfg (QEMU,
// docs/specs/fw_cfg.rst), which SeaBIOS and its boot ROMs speak; both of its ways are here:
//
//   port 510h   write 16 bits: selects an item
//   port 511h   reads it, byte by byte; zeros beyond its end
//   port 514h   write 32 + 32 bits, big endian, the high half first: where a command for a transfer to memory lies
//
// Nothing can be written to an item.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "engine/guest_memory.hpp"
#include "vdev/device.hpp"

namespace bulkhead::vdev {

class FirmwareConfiguration final : public PortDevice, public state::StateUnit {
 public:
  /// Items with numbers of their own; files have numbers from 20h on.
  enum class Item : std::uint16_t {
    Signature = 0x00,
    Features = 0x01,
    NoGraphics = 0x04,  // 16 bits
    PresentProcessors = 0x05,
    KernelAddress = 0x07,  // addresses and sizes: 32 bits
    KernelSize = 0x08,
    InitrdAddress = 0x0a,
    InitrdSize = 0x0b,
    MaximumProcessors = 0x0f,
    KernelData = 0x11,
    InitrdData = 0x12,
    CommandLineAddress = 0x13,
    CommandLineSize = 0x14,
    CommandLineData = 0x15,
    SetupAddress = 0x16,
    SetupSize = 0x17,
    SetupData = 0x18,
    Directory = 0x19,
    FirstFile = 0x20,
  };
  static constexpr std::size_t kFileNameSize = 56;  // with its final zero

  /// Transfers go to `memory`, which lives longer.
  explicit FirmwareConfiguration(engine::GuestMemory& memory);

  /// Before the machine starts. What is there already is replaced.
  void set(Item item, std::vector<std::uint8_t> bytes);
  /// The same with bytes that are elsewhere, in a file, say. `read` fills `to` with those from `offset` on, which are not
  /// beyond the end, while the machine runs; false: they cannot be had.
  struct Source {
    std::uint64_t size = 0;
    std::function<bool(std::uint64_t offset, std::span<std::uint8_t> to)> read;
  };
  void set_source(Item item, Source source);
  /// A little-endian number of `size` bytes.
  void set_number(Item item, std::uint64_t value, unsigned size);
  /// A name that fits kFileNameSize. Of files with the same name the last one counts.
  void set_file(std::string_view name, std::vector<std::uint8_t> bytes);

  std::span<const PortRange> ports() const override;
  std::uint32_t read_port(std::uint16_t port, unsigned size) override;
  void write_port(std::uint16_t port, unsigned size, std::uint32_t value) override;

  std::string_view name() const override { return "firmware-configuration"; }
  void start() override {}
  void stop() override {}
  void reset() override;
  state::SavedUnit save() const override;
  Result<> restore(const state::SavedUnit& saved) override;
  void inspect(state::Inspection& node) const override;

 private:
  struct Content {
    std::vector<std::uint8_t> owned;
    Source source;  // whose `read` is there if the bytes are not owned

    std::uint64_t size() const { return source.read ? source.size : owned.size(); }
    bool read(std::uint64_t offset, std::span<std::uint8_t> to) const;
  };

  void select(std::uint16_t item);
  /// Fills it with what comes next in the selected item, and with zeros from its end on.
  bool read_on(std::span<std::uint8_t> to);
  void transfer(std::uint64_t command_address);
  bool copy_to_guest(std::uint64_t address, std::uint32_t size);
  void renew_directory();

  engine::GuestMemory& memory_;
  std::map<std::uint16_t, Content> items_;
  std::vector<std::string> files_;
  std::uint16_t selected_ = 0;
  std::uint64_t offset_ = 0;  // of the next byte in the selected item, or beyond its end
  std::uint32_t address_high_ = 0;
};

}  // namespace bulkhead::vdev
