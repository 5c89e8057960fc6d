// SPDX-License-Identifier: Apache-2.0
#include "worker/machine_firmware.hpp"

#include <fmt/format.h>

#include "firmware/bios.hpp"

namespace bulkhead::worker {

Result<MachineFirmware> MachineFirmware::open(Files files) {
  MachineFirmware firmware;
  firmware.files_ = std::move(files);
  if (!firmware.files_.bios.is_open()) return firmware;
  auto bios = ImageFile::map(firmware.files_.bios, "the BIOS");
  if (!bios) return std::unexpected(bios.error());
  if (auto range = firmware::bios_range(bios->bytes().size()); !range) {
    return std::unexpected(range.error().within(fmt::format("cannot use the BIOS '{}'", bios->path())));
  }
  auto boot_rom = ImageFile::map(firmware.files_.boot_rom, "the boot ROM");
  if (!boot_rom) return std::unexpected(boot_rom.error());
  firmware.bios_ = std::move(*bios);
  firmware.boot_rom_ = std::move(*boot_rom);
  return firmware;
}

std::vector<engine::GuestMemory::Range> MachineFirmware::memory_ranges() const {
  if (!has_bios()) return {};
  return {*firmware::bios_range(bios_.bytes().size())};
}

Result<std::vector<engine::RegisterAssignment>> MachineFirmware::load(engine::GuestMemory& memory,
                                                                      const firmware::MachineDescription& machine,
                                                                      vdev::FirmwareConfiguration* configuration) {
  auto kernel = ImageFile::map(files_.kernel, "the kernel");
  if (!kernel) return std::unexpected(kernel.error());
  ImageFile initrd;
  if (files_.initrd.is_open()) {
    auto mapped = ImageFile::map(files_.initrd, "the initrd");
    if (!mapped) return std::unexpected(mapped.error());
    initrd = std::move(*mapped);
  }
  const auto within = [&](const Error& error) {
    return std::unexpected(error.within(fmt::format("cannot load '{}'", kernel->path())));
  };
  if (configuration == nullptr) {
    const firmware::Copy copy = [&](std::span<const std::uint8_t> piece, std::span<std::uint8_t> to) {
      return initrd.holds(piece) ? initrd.read(piece, to) : kernel->read(piece, to);
    };
    auto entry = firmware::load(memory, kernel->bytes(), initrd.bytes(), files_.kernel_arguments, machine, copy);
    if (!entry) return within(entry.error());
    return std::move(entry->registers);
  }
  const firmware::BiosBoot boot{.bios = bios_.bytes(),
                                .boot_rom = boot_rom_.bytes(),
                                .kernel = kernel->bytes(),
                                .initrd = initrd.bytes(),
                                .command_line = files_.kernel_arguments};
  if (auto loaded = firmware::load_bios(memory, *configuration, boot, machine); !loaded) return within(loaded.error());
  kernel_ = std::move(*kernel);
  initrd_ = std::move(initrd);
  return std::vector<engine::RegisterAssignment>();
}

}  // namespace bulkhead::worker
