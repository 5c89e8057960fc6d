// SPDX-License-Identifier: Apache-2.0
//
// hypervisor-information: what the hypervisor says of itself and its memory, one "name value" a line.
#include <fcntl.h>
#include <sys/ioctl.h>

#include <cstdio>

#include "abi/vid.h"

int main() {
  const int device = ::open(BULKHEAD_DEVICE, O_RDWR | O_CLOEXEC);
  bulkhead_information information = {};
  if (device < 0 || ::ioctl(device, BULKHEAD_GET_INFORMATION, &information) != 0) {
    std::perror(BULKHEAD_DEVICE);
    return 1;
  }
  const hv_bulkhead_information& hypervisor = information.hypervisor;
  std::printf("logical_processors %u\n", hypervisor.logical_processors);
  std::printf("maximum_vps %u\n", hypervisor.maximum_vps);
  std::printf("partitions %u\n", hypervisor.partitions);
  std::printf("image_bytes %llu\n", hypervisor.image_bytes);
  std::printf("memory_bytes %llu\n", hypervisor.memory_bytes);
  std::printf("root_pool_pages_available %llu\n", hypervisor.root_pool_pages_available);
  std::printf("root_pool_pages_in_use %llu\n", hypervisor.root_pool_pages_in_use);
  std::printf("deposited_pages %llu\n", hypervisor.deposited_pages);
  std::printf("tsc_frequency %llu\n", hypervisor.tsc_frequency);
  std::printf("exits %llu\n", hypervisor.exits);
  std::printf("interrupts %llu\n", hypervisor.interrupts);
}
