/* SPDX-License-Identifier: Apache-2.0
 *
 * Where things are in the hypervisor's own address space. Plain numbers, because assembly and the linker script read
 * them too.
 *
 *   0xffff8000_00000000  direct map: physical address 0 and on, not executable
 *   0xffffffff_80000000  the image
 */
#ifndef BULKHEAD_HYPERVISOR_BOOT_LAYOUT_H
#define BULKHEAD_HYPERVISOR_BOOT_LAYOUT_H

#define BULKHEAD_LOAD_BASE 0x100000
#define BULKHEAD_IMAGE_BASE 0xffffffff80000000
#define BULKHEAD_DIRECT_MAP 0xffff800000000000
#define BULKHEAD_DIRECT_MAP_SLOT 256

#endif
