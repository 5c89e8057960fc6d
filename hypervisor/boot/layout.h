/* SPDX-License-Identifier: Apache-2.0
 *
 * Where things are in the hypervisor's own address space. Plain numbers, because assembly and the linker script read
 * them too.
 *
 *   0x40000000  the image: below 2 GiB, as the smallest code model wants it
 *   0x80000000  direct map: physical address 0 and on, not executable
 *
 * Both begin in one table's range of 512 GiB, which saves a table. Nothing is at 0.
 */
#ifndef BULKHEAD_HYPERVISOR_BOOT_LAYOUT_H
#define BULKHEAD_HYPERVISOR_BOOT_LAYOUT_H

#define BULKHEAD_LOAD_BASE 0x100000
#define BULKHEAD_IMAGE_BASE 0x40000000
#define BULKHEAD_DIRECT_MAP 0x80000000

#endif
