// SPDX-License-Identifier: GPL-2.0-only
/* Interrupts of the partition's devices. The hypervisor says which blocked VPs can go on. */
#include <linux/io.h>
#include <linux/uaccess.h>

#include "bulkhead.h"
#include "hypercall.h"

int vid_interrupt_assert(struct vid_partition *partition, const struct bulkhead_assert_interrupt __user *argument)
{
	struct bulkhead_assert_interrupt request;
	struct hv_wake_set *wake_set;
	u64 wake = 0;
	u16 status;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	if (request.reserved)
		return -EINVAL;

	spin_lock(&partition->interrupt_lock);
	*partition->interrupt = (struct hv_assert_virtual_interrupt){
		.partition_id = partition->id,
		.interrupt_type = request.interrupt_type,
		.flags = request.flags,
		.destination = request.destination,
		.vector = request.vector,
	};
	wake_set = (struct hv_wake_set *)(partition->interrupt + 1);
	status = vid_result_status(vid_hypercall(HV_CALL_ASSERT_VIRTUAL_INTERRUPT, virt_to_phys(partition->interrupt),
						 virt_to_phys(wake_set)));
	if (status == HV_STATUS_SUCCESS)
		wake = wake_set->vps;
	spin_unlock(&partition->interrupt_lock);

	vid_partition_wake(partition, wake);
	return vid_status_to_errno(status);
}
