// SPDX-License-Identifier: GPL-2.0-only
/* Registers of a virtual processor, by name: a list of any length is served in as many calls as it takes. */
#include <linux/io.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "bulkhead.h"
#include "hypercall.h"

/* The input page of a call holds the header and these; the output page of a get holds the values. */
#define VALUES_AT_ONCE (HV_PAGE_SIZE / sizeof(struct hv_register_value))
#define ASSIGNMENTS_AT_ONCE ((HV_PAGE_SIZE - sizeof(struct hv_vp_registers)) / sizeof(struct hv_register_assignment))
static_assert(sizeof(struct hv_vp_registers) + VALUES_AT_ONCE * sizeof(u32) <= HV_PAGE_SIZE);

static u64 registers_call(struct vid_vp *vp, u16 code, u32 count)
{
	*(struct hv_vp_registers *)vp->input = (struct hv_vp_registers){
		.partition_id = vp->partition->id,
		.vp_index = vp->index,
	};
	return vid_hypercall_deposit(vp->partition->id, vid_control_rep(code, count), virt_to_phys(vp->input),
				     virt_to_phys(vp->output));
}

/* How many of a list come next, or a negative errno. */
static int get_batch(struct vid_vp *vp, struct hv_register_assignment __user *list, u32 count, u64 *result)
{
	u32 *names = vp->input + sizeof(struct hv_vp_registers);
	struct hv_register_value *values = vp->output;
	u32 i, done;

	count = min_t(u32, count, VALUES_AT_ONCE);
	for (i = 0; i < count; i++) {
		if (get_user(names[i], &list[i].name))
			return -EFAULT;
	}
	*result = registers_call(vp, HV_CALL_GET_VP_REGISTERS, count);
	done = min(vid_result_repetitions(*result), count);
	for (i = 0; i < done; i++) {
		if (copy_to_user(&list[i].value, &values[i], sizeof(values[i])))
			return -EFAULT;
	}
	return done;
}

static int set_batch(struct vid_vp *vp, struct hv_register_assignment __user *list, u32 count, u64 *result)
{
	count = min_t(u32, count, ASSIGNMENTS_AT_ONCE);
	if (copy_from_user(vp->input + sizeof(struct hv_vp_registers), list, count * sizeof(*list)))
		return -EFAULT;
	*result = registers_call(vp, HV_CALL_SET_VP_REGISTERS, count);
	return min(vid_result_repetitions(*result), count);
}

static int registers_locked(struct vid_vp *vp, struct bulkhead_vp_registers *request, bool set)
{
	struct hv_register_assignment __user *list = u64_to_user_ptr(request->assignments);
	u64 result = 0;
	int done;

	while (request->done < request->count) {
		if (fatal_signal_pending(current))
			return -EINTR;
		done = (set ? set_batch : get_batch)(vp, list + request->done, request->count - request->done, &result);
		if (done < 0)
			return done;
		request->done += done;
		request->status = vid_result_status(result);
		if (request->status != HV_STATUS_SUCCESS || !done)
			return -EIO;
		cond_resched();
	}
	return 0;
}

static int registers(struct vid_vp *vp, struct bulkhead_vp_registers __user *argument, bool set)
{
	struct bulkhead_vp_registers request;
	int error;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	if (request.reserved || request.reserved2)
		return -EINVAL;
	request.done = 0;
	request.status = HV_STATUS_SUCCESS;
	if (!mutex_trylock(&vp->lock))
		return -EBUSY;
	error = vp->removed ? -ENODEV : registers_locked(vp, &request, set);
	mutex_unlock(&vp->lock);
	if (put_user(request.status, &argument->status) || put_user(request.done, &argument->done))
		return -EFAULT;
	return error;
}

int vid_vp_registers_get(struct vid_vp *vp, struct bulkhead_vp_registers __user *argument)
{
	return registers(vp, argument, false);
}

int vid_vp_registers_set(struct vid_vp *vp, struct bulkhead_vp_registers __user *argument)
{
	return registers(vp, argument, true);
}
