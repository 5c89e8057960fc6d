// SPDX-License-Identifier: GPL-2.0-only
/* Partitions: their descriptors, their life, and the calls about them that need nothing of this driver. */
#include <linux/anon_inodes.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "bulkhead.h"
#include "deposit.h"
#include "hypercall.h"

static DEFINE_MUTEX(vid_partitions_lock);
static LIST_HEAD(vid_partitions);
static bool vid_partitions_closed;

static const struct file_operations partition_operations;

static void partition_free(struct vid_partition *partition)
{
	free_page((unsigned long)partition->input);
	free_page((unsigned long)partition->output);
	kfree(partition->delivery);
	mutex_destroy(&partition->lock);
	kfree(partition);
}

static struct vid_partition *partition_allocate(void)
{
	struct vid_partition *partition = kzalloc(sizeof(*partition), GFP_KERNEL_ACCOUNT);

	if (!partition)
		return NULL;
	kref_init(&partition->references);
	INIT_LIST_HEAD(&partition->node);
	mutex_init(&partition->lock);
	spin_lock_init(&partition->interrupt_lock);
	mt_init(&partition->mappings);
	partition->input = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	partition->output = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	partition->delivery = kzalloc(VID_DELIVERY_SIZE, GFP_KERNEL_ACCOUNT);
	if (partition->input && partition->output && partition->delivery)
		return partition;
	partition_free(partition);
	return NULL;
}

/* Takes everything back from the hypervisor. Later calls find nothing to do. */
static void partition_tear_down(struct vid_partition *partition)
{
	bool gone = true;
	u32 i;

	mutex_lock(&partition->lock);
	if (!partition->torn_down) {
		partition->torn_down = true;
		for (i = 0; i < VID_MAXIMUM_VPS; i++) {
			struct vid_vp *vp =
				rcu_dereference_protected(partition->vps[i], lockdep_is_held(&partition->lock));

			if (vp)
				vid_vp_remove(vp);
		}
		if (partition->id != HV_PARTITION_ID_INVALID)
			gone = vid_hypervisor_delete_partition(partition->id);
		vid_mappings_drop(partition, gone);
	}
	mutex_unlock(&partition->lock);
}

static void partition_release(struct kref *references)
{
	struct vid_partition *partition = container_of(references, struct vid_partition, references);

	partition_tear_down(partition);
	mutex_lock(&vid_partitions_lock);
	list_del(&partition->node);
	mutex_unlock(&vid_partitions_lock);
	partition_free(partition);
}

void vid_partition_put(struct vid_partition *partition)
{
	kref_put(&partition->references, partition_release);
}

void vid_partitions_close(void)
{
	struct vid_partition *partition;

	mutex_lock(&vid_partitions_lock);
	vid_partitions_closed = true;
	/* Also those that lost their last reference a moment ago: they are in the list until they are torn down. */
	list_for_each_entry(partition, &vid_partitions, node) partition_tear_down(partition);
	mutex_unlock(&vid_partitions_lock);
}

void vid_partition_wake(struct vid_partition *partition, u64 wake_set)
{
	struct vid_vp *vp;

	rcu_read_lock();
	while (wake_set) {
		vp = rcu_dereference(partition->vps[__ffs64(wake_set)]);
		wake_set &= wake_set - 1;
		if (vp)
			vid_vp_wake(vp);
	}
	rcu_read_unlock();
}

/* Enters it into the list, unless the machine is about to restart. */
static int partition_publish(struct vid_partition *partition)
{
	int error = 0;

	mutex_lock(&vid_partitions_lock);
	if (vid_partitions_closed)
		error = -ENODEV;
	else
		list_add_tail(&partition->node, &vid_partitions);
	mutex_unlock(&vid_partitions_lock);
	return error;
}

int vid_partition_create(const struct bulkhead_create_partition __user *argument)
{
	struct bulkhead_create_partition request;
	struct vid_partition *partition;
	struct hv_partition_id *output;
	int result;
	u16 status;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	if (memchr_inv(request.reserved, 0, sizeof(request.reserved)))
		return -EINVAL;
	partition = partition_allocate();
	if (!partition)
		return -ENOMEM;
	result = partition_publish(partition);
	if (result) {
		vid_partition_put(partition);
		return result;
	}

	mutex_lock(&partition->lock);
	*(struct hv_create_partition *)partition->input = (struct hv_create_partition){.flags = request.creation_flags};
	output = partition->output;
	status = HV_STATUS_INVALID_PARTITION_STATE;
	/* The object of the new partition is in the caller's, that is the root's, pool. */
	if (!partition->torn_down)
		status = vid_result_status(vid_hypercall_deposit(HV_PARTITION_ID_SELF, HV_CALL_CREATE_PARTITION,
								 virt_to_phys(partition->input), virt_to_phys(output)));
	if (status == HV_STATUS_SUCCESS)
		partition->id = output->partition_id;
	mutex_unlock(&partition->lock);

	result = vid_status_to_errno(status);
	if (!result)
		result = anon_inode_getfd("bulkhead-partition", &partition_operations, partition, O_RDWR | O_CLOEXEC);
	if (result < 0)
		vid_partition_put(partition);
	return result;
}

static int partition_initialize(struct vid_partition *partition)
{
	u64 control = HV_CALL_INITIALIZE_PARTITION | HV_HYPERCALL_FAST;

	return vid_status_to_errno(vid_result_status(vid_hypercall_deposit(partition->id, control, partition->id, 0)));
}

/* The calls that user space may make itself: how much input each has at least, how much output, and how much of both
 * for each repetition. */
static const struct direct_call {
	u16 code;
	u16 input_size;
	u16 output_size;
	u16 input_element;
	u16 output_element;
} direct_calls[] = {
	{HV_CALL_GET_PARTITION_PROPERTY, HV_GET_PARTITION_PROPERTY_INPUT_SIZE, sizeof(u64)},
	{HV_CALL_SET_PARTITION_PROPERTY, sizeof(struct hv_partition_property), 0},
	{HV_CALL_GET_MEMORY_BALANCE, sizeof(struct hv_withdraw_memory), sizeof(struct hv_memory_balance)},
	{HV_CALL_INSTALL_INTERCEPT, sizeof(struct hv_install_intercept), 0},
	{HV_CALL_REGISTER_INTERCEPT_RESULT, sizeof(struct hv_register_cpuid_result), 0},
	{HV_CALL_GET_GPA_PAGES_ACCESS_STATES, sizeof(struct hv_get_gpa_pages_access_states), 0, 0, sizeof(u8)},
	{HV_CALL_GET_VP_CPUID_VALUES, sizeof(struct hv_get_vp_cpuid_values), 0, sizeof(struct hv_cpuid_leaf),
	 sizeof(struct hv_cpuid_values)},
};

static int check_direct_call(const struct bulkhead_hypercall *request)
{
	u32 repetitions = request->repetitions;
	size_t i;

	if (request->input_size > HV_PAGE_SIZE || request->output_size > HV_PAGE_SIZE ||
	    repetitions > HV_HYPERCALL_REP_MASK)
		return -EINVAL;
	for (i = 0; i < ARRAY_SIZE(direct_calls); i++) {
		const struct direct_call *call = &direct_calls[i];

		if (call->code != request->code)
			continue;
		if (!repetitions != !(call->input_element || call->output_element) ||
		    request->input_size < call->input_size + repetitions * call->input_element ||
		    request->output_size > call->output_size + repetitions * call->output_element)
			return -EINVAL;
		return 0;
	}
	return -EPERM;
}

static int partition_hypercall(struct vid_partition *partition, struct bulkhead_hypercall __user *argument)
{
	struct bulkhead_hypercall request;
	u64 result;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	if (check_direct_call(&request))
		return check_direct_call(&request);
	memset(partition->input, 0, HV_PAGE_SIZE);
	if (copy_from_user(partition->input, u64_to_user_ptr(request.input), request.input_size))
		return -EFAULT;
	*(u64 *)partition->input = partition->id;
	memset(partition->output, 0, HV_PAGE_SIZE);
	result = vid_hypercall_deposit(partition->id, vid_control_rep(request.code, request.repetitions),
				       virt_to_phys(partition->input), virt_to_phys(partition->output));
	request.status = vid_result_status(result);
	if (put_user(request.status, &argument->status))
		return -EFAULT;
	if (request.status != HV_STATUS_SUCCESS)
		return -EIO;
	if (copy_to_user(u64_to_user_ptr(request.output), partition->output, request.output_size))
		return -EFAULT;
	return 0;
}

static long partition_ioctl_locked(struct vid_partition *partition, unsigned int command, void __user *argument)
{
	switch (command) {
	case BULKHEAD_INITIALIZE_PARTITION:
		return argument ? -EINVAL : partition_initialize(partition);
	case BULKHEAD_MAP_MEMORY:
		return vid_mapping_add(partition, argument);
	case BULKHEAD_UNMAP_MEMORY:
		return vid_mapping_remove(partition, argument);
	case BULKHEAD_CREATE_VP:
		return vid_vp_create(partition, argument);
	case BULKHEAD_HYPERCALL:
		return partition_hypercall(partition, argument);
	default:
		return -ENOTTY;
	}
}

static long partition_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct vid_partition *partition = file->private_data;
	long result;

	/* Interrupts and what causes them do not wait for whatever else goes on. */
	switch (command) {
	case BULKHEAD_ASSERT_INTERRUPT:
		return vid_interrupt_assert(partition, (const void __user *)argument);
	case BULKHEAD_POST_MESSAGE:
		return vid_message_post(partition, (const void __user *)argument);
	case BULKHEAD_SIGNAL_EVENT:
		return vid_event_signal(partition, (const void __user *)argument);
	}

	if (mutex_lock_killable(&partition->lock))
		return -EINTR;
	result = -ENODEV;
	if (!partition->torn_down)
		result = partition_ioctl_locked(partition, command, (void __user *)argument);
	mutex_unlock(&partition->lock);
	return result;
}

static int partition_file_release(struct inode *inode, struct file *file)
{
	vid_partition_put(file->private_data);
	return 0;
}

static const struct file_operations partition_operations = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = partition_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = partition_file_release,
};
