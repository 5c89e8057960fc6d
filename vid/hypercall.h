/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Calling the hypervisor: TLFS, "Hypercall Interface". Parameters are in physical memory, each block inside one page;
 * those of a "fast" call are the two values themselves. We issue the instruction ourselves instead of through a
 * hypercall page, because the root sees no Hv#1 interface and this driver uses none of the kernel's Hyper-V code.
 */
#ifndef BULKHEAD_VID_HYPERCALL_H
#define BULKHEAD_VID_HYPERCALL_H

#include <linux/types.h>
#include <asm/alternative.h>
#include <asm/cpufeatures.h>

#include "abi/hypercall.h"

/* The result word. A rep call may be interrupted and go on by itself; so this may take interrupts in between. */
static __always_inline u64 vid_hypercall(u64 control, u64 input, u64 output)
{
	register u64 r8 asm("r8") = output;
	u64 result;

	asm volatile(ALTERNATIVE("vmcall", "vmmcall", X86_FEATURE_VMMCALL)
		     : "=a"(result), "+c"(control), "+d"(input), "+r"(r8)
		     :
		     : "memory", "cc", "r9", "r10", "r11");
	return result;
}

static inline u16 vid_result_status(u64 result)
{
	return result & 0xffff;
}

/* Counted from the first element of the list, also where a call started further on. */
static inline u32 vid_result_repetitions(u64 result)
{
	return (result >> HV_HYPERCALL_REP_COUNT_SHIFT) & HV_HYPERCALL_REP_MASK;
}

static inline u64 vid_control_rep(u16 code, u32 count)
{
	return code | (u64)count << HV_HYPERCALL_REP_COUNT_SHIFT;
}

/* `size` bytes follow the header, as the call's variable header. */
static inline u64 vid_control_variable(u16 code, u32 size)
{
	return code | (u64)(size / sizeof(u64)) << HV_HYPERCALL_VARIABLE_HEADER_SHIFT;
}

/*
 * Makes a call, and where the hypervisor asks for memory, deposits some into the pool of partition `pool` and goes on.
 * May sleep. For errors that arise here (no memory to deposit) the result's status is INSUFFICIENT_MEMORY.
 */
u64 vid_hypercall_deposit(u64 pool, u64 control, u64 input, u64 output);

/* For calls whose structure in abi/vid.h has no field for the status. */
int vid_status_to_errno(u16 status);

/* Is it Bulkhead that we run on, with an interface that we know? Logs why not. */
int vid_hypervisor_detect(void);
/* Call 0x7f00; `page` is a whole page. */
int vid_hypervisor_information(struct hv_bulkhead_information *page);
/* Children that an earlier kernel left behind when it was not shut down. */
int vid_hypervisor_remove_leftovers(void);
/* Ends a partition in the hypervisor. `false` if it would not go. */
bool vid_hypervisor_delete_partition(u64 id);

#endif
