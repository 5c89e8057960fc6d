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

const ImageFile& MachineFirmware::file_of(std::span<const std::uint8_t> piece) const {
  return initrd_.holds(piece) ? initrd_ : kernel_;
}

Result<> MachineFirmware::map_files() {
  auto kernel = ImageFile::map(files_.kernel, "the kernel");
  if (!kernel) return std::unexpected(kernel.error());
  ImageFile initrd;
  if (files_.initrd.is_open()) {
    auto mapped = ImageFile::map(files_.initrd, "the initrd");
    if (!mapped) return std::unexpected(mapped.error());
    initrd = std::move(*mapped);
  }
  kernel_ = std::move(*kernel);
  initrd_ = std::move(initrd);
  return {};
}

Result<std::vector<engine::RegisterAssignment>> MachineFirmware::load(engine::GuestMemory& memory,
                                                                      const firmware::MachineDescription& machine,
                                                                      vdev::FirmwareConfiguration* configuration,
                                                                      std::function<void(const Error&)> failed) {
  if (auto mapped = map_files(); !mapped) return std::unexpected(mapped.error());
  const auto cannot_load = [](const ImageFile& file, const Error& error) {
    return error.within(fmt::format("cannot load '{}'", file.path()));
  };
  if (configuration == nullptr) {
    const firmware::Copy copy = [this](std::span<const std::uint8_t> piece, std::span<std::uint8_t> to) {
      return file_of(piece).read(piece, to);
    };
    auto entry = firmware::load(memory, kernel_.bytes(), initrd_.bytes(), files_.kernel_arguments, machine, copy);
    if (!entry) return std::unexpected(cannot_load(kernel_, entry.error()));
    kernel_ = {};
    initrd_ = {};
    return std::move(entry->registers);
  }
  const firmware::Copy copy = [this, cannot_load, failed = std::move(failed)](std::span<const std::uint8_t> piece,
                                                                              std::span<std::uint8_t> to) {
    auto read = file_of(piece).read(piece, to);
    if (!read) failed(cannot_load(file_of(piece), read.error()));
    return read;
  };
  const firmware::BiosBoot boot{.bios = bios_.bytes(),
                                .boot_rom = boot_rom_.bytes(),
                                .kernel = kernel_.bytes(),
                                .initrd = initrd_.bytes(),
                                .command_line = files_.kernel_arguments};
  if (auto loaded = firmware::load_bios(memory, *configuration, boot, machine, copy); !loaded) {
    return std::unexpected(cannot_load(kernel_, loaded.error()));
  }
  return std::vector<engine::RegisterAssignment>();
}

}  // namespace bulkhead::worker
