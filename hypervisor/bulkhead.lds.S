/* SPDX-License-Identifier: Apache-2.0
 *
 *   BULKHEAD_IMAGE_BASE  headers | text | rodata | data, bss ‖ boot text, rodata, data | boot bss
 *                        └──────── resident ────────────────┘└──── given back to the root once it runs ────┘
 *
 * The boot folder's objects are those with "/boot/" in their path (a slash and a star would begin a comment here).
 * Loaded as one flat piece at BULKHEAD_LOAD_BASE; the resident part then moves to the top of memory. Since something
 * follows it in the file, the resident zeroed data takes room in the file too.
 */
#include "hypervisor/boot/layout.h"

OUTPUT_FORMAT(elf64-x86-64)
ENTRY(boot_entry32)

PHDRS
{
  resident PT_LOAD FLAGS(7);
}

SECTIONS
{
  . = BULKHEAD_IMAGE_BASE;
  image_start = .;
  .text : AT(BULKHEAD_LOAD_BASE) {
    KEEP(*(.headers))
    *(EXCLUDE_FILE(*?boot?*.o) .text EXCLUDE_FILE(*?boot?*.o) .text.*)
  } :resident
  . = ALIGN(4096);
  rodata_start = .;
  .rodata : {
    *(EXCLUDE_FILE(*?boot?*.o) .rodata EXCLUDE_FILE(*?boot?*.o) .rodata.*)
    KEEP(*(.rodata.processor_gdt))
    *(EXCLUDE_FILE(*?boot?*.o) .data.rel.ro EXCLUDE_FILE(*?boot?*.o) .data.rel.ro.*)
    . = ALIGN(8);
    constructors_start = .;
    KEEP(*(SORT_BY_INIT_PRIORITY(.init_array.*) .init_array))
    constructors_end = .;
  } :resident
  . = ALIGN(4096);
  data_start = .;
  .data : {
    *(EXCLUDE_FILE(*?boot?*.o) .data EXCLUDE_FILE(*?boot?*.o) .data.*)
    *(EXCLUDE_FILE(*?boot?*.o) .bss EXCLUDE_FILE(*?boot?*.o) .bss.*)
    *(COMMON)
    . = ALIGN(4096);
    resident_end = .;
  } :resident
  .boot : {
    *(.boot.text)
    *?boot?*.o(.text .text.* .rodata .rodata.* .data.rel.ro .data.rel.ro.* .data .data.*)
    *(.boot.data)
    . = ALIGN(8);
    image_file_end = .;
  } :resident
  .boot.bss (NOLOAD) : {
    *?boot?*.o(.bss .bss.*)
    *(.boot.bss)
    . = ALIGN(4096);
    image_end = .;
  } :resident

  ASSERT(image_end - image_start <= 0x200000, "image does not fit its window")
  /DISCARD/ : { *(.comment) *(.note.*) *(.eh_frame) *(.eh_frame_hdr) *(.gnu.*) }
}
