// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a virtual processor is beyond its registers with names: calls 0xe3 and 0xe4. The state is in a page of ours,
 * which the call names; small ones are in the parameters themselves.
 *
 *   get:  output page ◀── state, in either case
 *   set:  input page: header, then the number of the output page or the state
 */
#include <linux/io.h>
#include <linux/uaccess.h>

#include "bulkhead.h"
#include "hypercall.h"

static_assert(sizeof(struct hv_vp_state) + sizeof(struct hv_synthetic_timers_state) <= HV_PAGE_SIZE);

/* How much user space gives or gets; 0: the hypervisor knows no such state. */
static u32 state_size(u32 type)
{
	switch (type) {
	case HV_VP_STATE_LOCAL_APIC:
	case HV_VP_STATE_XSAVE:
		return HV_PAGE_SIZE;
	case HV_VP_STATE_SYNTHETIC_TIMERS:
		return sizeof(struct hv_synthetic_timers_state);
	default:
		return 0;
	}
}

static u16 state_call(struct vid_vp *vp, u16 code, u32 type)
{
	bool in_page = type & HV_VP_STATE_IN_PAGE;
	u64 *variable = vp->input + sizeof(struct hv_vp_state);
	u32 variable_size = 0;

	*(struct hv_vp_state *)vp->input = (struct hv_vp_state){
		.partition_id = vp->partition->id,
		.vp_index = vp->index,
		.type = type,
	};
	if (in_page) {
		*variable = virt_to_phys(vp->output) >> PAGE_SHIFT;
		variable_size = sizeof(*variable);
	} else if (code == HV_CALL_SET_VP_STATE) {
		variable_size = state_size(type);
		memcpy(variable, vp->output, variable_size);
	}
	return vid_result_status(vid_hypercall_deposit(vp->partition->id, vid_control_variable(code, variable_size),
						       virt_to_phys(vp->input),
						       in_page ? 0 : virt_to_phys(vp->output)));
}

static int state_locked(struct vid_vp *vp, struct bulkhead_vp_state *request, bool set)
{
	void __user *state = u64_to_user_ptr(request->state);

	if (vp->removed)
		return -ENODEV;
	memset(vp->output, 0, HV_PAGE_SIZE);
	if (set && copy_from_user(vp->output, state, request->size))
		return -EFAULT;
	request->status = state_call(vp, set ? HV_CALL_SET_VP_STATE : HV_CALL_GET_VP_STATE, request->type);
	if (request->status != HV_STATUS_SUCCESS)
		return -EIO;
	if (!set && copy_to_user(state, vp->output, request->size))
		return -EFAULT;
	return 0;
}

static int state(struct vid_vp *vp, struct bulkhead_vp_state __user *argument, bool set)
{
	struct bulkhead_vp_state request;
	int error;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	if (request.reserved || request.reserved2 || !request.size || request.size > state_size(request.type))
		return -EINVAL;
	if (!(request.type & HV_VP_STATE_IN_PAGE) && request.size != state_size(request.type))
		return -EINVAL;
	request.status = HV_STATUS_SUCCESS;
	if (!mutex_trylock(&vp->lock))
		return -EBUSY;
	error = state_locked(vp, &request, set);
	mutex_unlock(&vp->lock);
	if (put_user(request.status, &argument->status))
		return -EFAULT;
	return error;
}

int vid_vp_state_get(struct vid_vp *vp, struct bulkhead_vp_state __user *argument)
{
	return state(vp, argument, false);
}

int vid_vp_state_set(struct vid_vp *vp, struct bulkhead_vp_state __user *argument)
{
	return state(vp, argument, true);
}
