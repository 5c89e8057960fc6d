// SPDX-License-Identifier: Apache-2.0
//
// What a machine starts with: the kernel and its files, and the BIOS where one starts the kernel.
#pragma once

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
  /// with anyway. `configuration`: the BIOS's, or null without one. Errors: those of firmware/.
  Result<std::vector<engine::RegisterAssignment>> load(engine::GuestMemory& memory,
                                                       const firmware::MachineDescription& machine,
                                                       vdev::FirmwareConfiguration* configuration);

 private:
  Files files_;
  ImageFile bios_;
  ImageFile boot_rom_;
  // What the BIOS still reads; without one they are mapped only while they are copied.
  ImageFile kernel_;
  ImageFile initrd_;
};

}  // namespace bulkhead::worker
