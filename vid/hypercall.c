// SPDX-License-Identifier: GPL-2.0-only
#include "hypercall.h"

#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/minmax.h>
#include <linux/printk.h>
#include <linux/string.h>
#include <asm/cpufeature.h>
#include <asm/processor.h>

#include "deposit.h"

#define SIGNATURE_LEAF 0x40000000
#define SIGNATURE "BulkheadRoot"

/* Deposits start small, because most calls need a page or two, and grow for the few that need many. */
#define DEPOSIT_FIRST 16u
#define DEPOSIT_MOST 256u
/* A hypervisor that wants more than this for one call of at most 512 repetitions is not well. */
#define DEPOSIT_LIMIT 8192u

u64 vid_hypercall_deposit(u64 pool, u64 control, u64 input, u64 output)
{
	const u64 rep_start = HV_HYPERCALL_REP_MASK << HV_HYPERCALL_REP_START_SHIFT;
	u32 step = DEPOSIT_FIRST;
	u32 deposited = 0;
	u64 result;

	for (;;) {
		result = vid_hypercall(control, input, output);
		if (vid_result_status(result) != HV_STATUS_INSUFFICIENT_MEMORY)
			return result;
		/* No look at signals: a process that is killed must still get through its tear-down. */
		if (deposited >= DEPOSIT_LIMIT || vid_deposit(pool, step))
			return result;
		deposited += step;
		step = min(step * 2, DEPOSIT_MOST);
		control &= ~rep_start;
		control |= (u64)vid_result_repetitions(result) << HV_HYPERCALL_REP_START_SHIFT;
	}
}

int vid_status_to_errno(u16 status)
{
	switch (status) {
	case HV_STATUS_SUCCESS:
		return 0;
	case HV_STATUS_INVALID_HYPERCALL_INPUT:
	case HV_STATUS_INVALID_ALIGNMENT:
	case HV_STATUS_INVALID_PARAMETER:
	case HV_STATUS_INVALID_PARTITION_STATE:
	case HV_STATUS_INVALID_VP_INDEX:
		return -EINVAL;
	case HV_STATUS_ACCESS_DENIED:
	case HV_STATUS_OPERATION_DENIED:
		return -EPERM;
	case HV_STATUS_INSUFFICIENT_MEMORY:
		return -ENOMEM;
	case HV_STATUS_INSUFFICIENT_BUFFERS:
	case HV_STATUS_INVALID_SYNIC_STATE:
		return -EAGAIN;
	case HV_STATUS_OBJECT_IN_USE:
		return -EEXIST;
	default:
		return -EIO;
	}
}

int vid_hypervisor_detect(void)
{
	struct hv_bulkhead_information *page;
	u32 signature[3] = {}; /* EBX, ECX, EDX */
	u32 eax;
	int error;

	if (boot_cpu_has(X86_FEATURE_HYPERVISOR))
		cpuid(SIGNATURE_LEAF, &eax, &signature[0], &signature[1], &signature[2]);
	if (memcmp(signature, SIGNATURE, sizeof(signature))) {
		pr_err("bulkhead: this kernel does not run as the root partition of Bulkhead\n");
		return -ENODEV;
	}

	page = (void *)get_zeroed_page(GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	error = vid_hypervisor_information(page);
	if (error || page->abi_level != HV_BULKHEAD_ABI_LEVEL) {
		pr_err("bulkhead: the hypervisor's interface is of level %u, this driver is for level %u\n",
		       error ? 0 : page->abi_level, HV_BULKHEAD_ABI_LEVEL);
		error = -ENODEV;
	}
	free_page((unsigned long)page);
	return error;
}

int vid_hypervisor_information(struct hv_bulkhead_information *page)
{
	u64 result = vid_hypercall(HV_CALL_BULKHEAD_INFORMATION, 0, virt_to_phys(page));

	return vid_result_status(result) == HV_STATUS_SUCCESS ? 0 : -EIO;
}

static bool finalize(u64 id)
{
	u64 result = vid_hypercall_deposit(id, HV_CALL_FINALIZE_PARTITION | HV_HYPERCALL_FAST, id, 0);

	return vid_result_status(result) == HV_STATUS_SUCCESS;
}

bool vid_hypervisor_delete_partition(u64 id)
{
	u64 result;

	if (!finalize(id)) {
		pr_err("bulkhead: partition %llu cannot be finalized\n", id);
		return false;
	}
	if (!vid_withdraw(id))
		return false;
	result = vid_hypercall(HV_CALL_DELETE_PARTITION | HV_HYPERCALL_FAST, id, 0);
	if (vid_result_status(result) != HV_STATUS_SUCCESS) {
		pr_err("bulkhead: partition %llu cannot be deleted: status %#x\n", id, vid_result_status(result));
		return false;
	}
	return true;
}

/* The first child after `previous`, or 0. */
static u64 next_child(void *page, u64 previous)
{
	struct hv_get_next_child_partition *input = page;
	struct hv_partition_id *output = page + HV_PAGE_SIZE / 2;
	u64 result;

	input->parent_id = HV_PARTITION_ID_SELF;
	input->previous_child_id = previous;
	output->partition_id = HV_PARTITION_ID_INVALID;
	result = vid_hypercall(HV_CALL_GET_NEXT_CHILD_PARTITION, virt_to_phys(input), virt_to_phys(output));
	return vid_result_status(result) == HV_STATUS_SUCCESS ? output->partition_id : HV_PARTITION_ID_INVALID;
}

int vid_hypervisor_remove_leftovers(void)
{
	void *page = (void *)get_zeroed_page(GFP_KERNEL);
	u64 previous = HV_PARTITION_ID_INVALID;
	u64 id;

	if (!page)
		return -ENOMEM;
	while ((id = next_child(page, previous)) != HV_PARTITION_ID_INVALID) {
		pr_warn("bulkhead: removing partition %llu, which an earlier kernel left behind\n", id);
		if (!vid_hypervisor_delete_partition(id))
			previous = id;
	}
	/* And what it lent to the hypervisor for itself. */
	vid_withdraw(HV_PARTITION_ID_SELF);
	free_page((unsigned long)page);
	return 0;
}
