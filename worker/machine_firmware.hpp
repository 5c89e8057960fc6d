// SPDX-License-Identifier: Apache-2.0
//
// What a machine starts with: the kernel and its files, and the BIOS where one starts the kernel.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/guest_memory.hpp"
#include "firmware/firmware.hpp"
#include "vdev/firmware_configuration.hpp"
#include "worker/image_file.hpp"

namespace bulkhead::worker {

class MachineFirmware {
 public:
  struct Files {
    engine::FileDescriptor kernel;
    engine::FileDescriptor initrd;    // may be none
    engine::FileDescriptor bios;      // may be none: the kernel is entered directly
    engine::FileDescriptor boot_rom;  // with a BIOS
    std::string kernel_arguments;
  };

  /// Error: a BIOS that cannot be one.
  static Result<MachineFirmware> open(Files files);

  bool has_bios() const { return !bios_.bytes().empty(); }
  /// The memory that the BIOS lies in, or none.
  std::vector<engine::GuestMemory::Range> memory_ranges() const;

  /// Loads everything into the machine's memory, as at power-on. Gives the registers that processor 0 does not begin
  /// with anyway. Errors: those of firmware/.
  /// `configuration`: the BIOS's, or null without one. With one the kernel and the initrd are read when the BIOS asks for
  /// them, and `failed` is told of what cannot be read then; this object must stay where it is.
  Result<std::vector<engine::RegisterAssignment>> load(engine::GuestMemory& memory,
                                                       const firmware::MachineDescription& machine,
                                                       vdev::FirmwareConfiguration* configuration,
                                                       std::function<void(const Error&)> failed);

 private:
  Result<> map_files();
  /// The file that the piece is of.
  const ImageFile& file_of(std::span<const std::uint8_t> piece) const;

  Files files_;
  ImageFile bios_;
  ImageFile boot_rom_;
  // While they are loaded: with a BIOS as long as the machine runs.
  ImageFile kernel_;
  ImageFile initrd_;
};

}  // namespace bulkhead::worker
