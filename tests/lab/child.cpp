// SPDX-License-Identifier: Apache-2.0
#include "tests/lab/child.hpp"

#include <fmt/format.h>

#include <cctype>

namespace bulkhead::lab {

std::string command_of(const LinuxChild& child) {
  return fmt::format(
      "bulkhead run --engine {0} --memory 512M --vps {1} --kernel /child/{2}/vmlinuz --initrd /child/{2}/initrd "
      "--cmdline 'console=ttyS0 quiet child.mode={3} {4}' {5} </dev/null",
      child.engine, child.vps, child.kernel, child.mode, child.words, child.options);
}

std::string command_with_vmbus(const LinuxChild& child) {
  return fmt::format(
      "bulkhead-vmwp --name child --engine {0} --memory 536870912 --vps {1} --kernel-fd 3 --initrd-fd 4 --com1-fd 1 "
      "--vmbus --cmdline 'console=ttyS0 quiet child.mode={3} {4}' 3</child/{2}/vmlinuz 4</child/{2}/initrd "
      "</dev/null 2>&1",
      child.engine, child.vps, child.kernel, child.mode, child.words);
}

std::string command_of(const TinyGuest& guest) {
  return fmt::format(
      "bulkhead run --engine {} --memory 64M --vps {} --kernel /guests/{}.elf --cmdline '{}' {} </dev/null",
      guest.engine, guest.vps, guest.name, guest.words, guest.options);
}

MachineSettings machine_for(const std::string& engine) {
  return {.below = engine == "native" ? Below::Bulkhead : Below::Nothing};
}

std::string test_name(std::string text) {
  std::erase_if(text, [](char letter) { return std::isalnum(static_cast<unsigned char>(letter)) == 0; });
  return text;
}

}  // namespace bulkhead::lab
