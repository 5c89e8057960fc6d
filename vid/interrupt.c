// SPDX-License-Identifier: GPL-2.0-only
/*
 * What comes to the partition's processors from outside: interrupts of devices, messages and events for their SynICs.
 * The hypervisor says which blocked VPs can go on.
 */
#include <linux/io.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "bulkhead.h"
#include "hypercall.h"

/* Makes the call with what is in partition->delivery; the output is in `output` of it. Under interrupt_lock. */
static u16 call(struct vid_partition *partition, u16 code, void *output)
{
	return vid_result_status(vid_hypercall(code, virt_to_phys(partition->delivery), virt_to_phys(output)));
}

int vid_interrupt_assert(struct vid_partition *partition, const struct bulkhead_assert_interrupt __user *argument)
{
	struct vid_delivery *delivery = partition->delivery;
	struct bulkhead_assert_interrupt request;
	u64 wake = 0;
	u16 status;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	if (request.reserved)
		return -EINVAL;

	spin_lock(&partition->interrupt_lock);
	delivery->interrupt = (struct hv_assert_virtual_interrupt){
		.partition_id = partition->id,
		.interrupt_type = request.interrupt_type,
		.flags = request.flags,
		.destination = request.destination,
		.vector = request.vector,
	};
	status = call(partition, HV_CALL_ASSERT_VIRTUAL_INTERRUPT, &delivery->woken);
	if (status == HV_STATUS_SUCCESS)
		wake = delivery->woken.vps;
	spin_unlock(&partition->interrupt_lock);

	vid_partition_wake(partition, wake);
	return vid_status_to_errno(status);
}

int vid_message_post(struct vid_partition *partition, const struct bulkhead_post_message __user *argument)
{
	struct vid_delivery *delivery = partition->delivery;
	struct bulkhead_post_message request;
	u64 wake = 0;
	u16 status;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	if (memchr_inv(request.reserved, 0, sizeof(request.reserved)))
		return -EINVAL;

	spin_lock(&partition->interrupt_lock);
	delivery->message = (struct hv_post_message_direct){
		.partition_id = partition->id,
		.vp_index = request.vp_index,
		.sint = request.sint,
	};
	memcpy(delivery->message.message, request.message, sizeof(request.message));
	status = call(partition, HV_CALL_POST_MESSAGE_DIRECT, &delivery->woken);
	if (status == HV_STATUS_SUCCESS)
		wake = delivery->woken.vps;
	spin_unlock(&partition->interrupt_lock);

	vid_partition_wake(partition, wake);
	return vid_status_to_errno(status);
}

int vid_event_signal(struct vid_partition *partition, const struct bulkhead_signal_event __user *argument)
{
	struct vid_delivery *delivery = partition->delivery;
	struct bulkhead_signal_event request;
	u64 wake = 0;
	u16 status;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	if (request.reserved)
		return -EINVAL;

	spin_lock(&partition->interrupt_lock);
	delivery->event = (struct hv_signal_event_direct){
		.partition_id = partition->id,
		.vp_index = request.vp_index,
		.sint = request.sint,
		.flag = request.flag,
	};
	status = call(partition, HV_CALL_SIGNAL_EVENT_DIRECT, &delivery->signaled);
	if (status == HV_STATUS_SUCCESS)
		wake = delivery->signaled.wake_set;
	spin_unlock(&partition->interrupt_lock);

	vid_partition_wake(partition, wake);
	return vid_status_to_errno(status);
}
