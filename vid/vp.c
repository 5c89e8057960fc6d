// SPDX-License-Identifier: GPL-2.0-only
/*
 * Virtual processors: their descriptors, and the two pages of state that the hypervisor and user space share.
 *
 *   mmap offset 0      register page
 *               4096   intercept message page
 */
#include <linux/anon_inodes.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "bulkhead.h"
#include "compat.h"
#include "hypercall.h"

static_assert(VID_VP_STATE_PAGES * PAGE_SIZE == BULKHEAD_VP_MMAP_SIZE);
static_assert((int)VID_VP_REGISTERS == (int)HV_VP_STATE_PAGE_REGISTERS);
static_assert((int)VID_VP_INTERCEPT_MESSAGE == (int)HV_VP_STATE_PAGE_INTERCEPT_MESSAGE);

static const struct file_operations vp_operations;

static void vp_free(struct vid_vp *vp)
{
	u32 i;

	hrtimer_cancel(&vp->timer);
	free_page((unsigned long)vp->dispatch);
	free_page((unsigned long)vp->input);
	free_page((unsigned long)vp->output);
	for (i = 0; i < VID_VP_STATE_PAGES; i++) {
		if (vp->state_pages[i])
			put_page(vp->state_pages[i]);
	}
	mutex_destroy(&vp->lock);
	/* A waker may still look at it. */
	kfree_rcu(vp, rcu);
}

static struct vid_vp *vp_allocate(struct vid_partition *partition, u32 index)
{
	struct vid_vp *vp = kzalloc(sizeof(*vp), GFP_KERNEL_ACCOUNT);
	u32 i;

	if (!vp)
		return NULL;
	mutex_init(&vp->lock);
	init_waitqueue_head(&vp->queue);
	vid_timer_setup(&vp->timer, vid_vp_timer_expired);
	vp->partition = partition;
	vp->index = index;
	vp->dispatch = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	vp->input = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	vp->output = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	for (i = 0; i < VID_VP_STATE_PAGES; i++)
		vp->state_pages[i] = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!vp->dispatch || !vp->input || !vp->output || !vp->state_pages[0] || !vp->state_pages[1]) {
		vp_free(vp);
		return NULL;
	}
	vp->dispatch->input.partition_id = partition->id;
	vp->dispatch->input.vp_index = index;
	return vp;
}

/* The three things that the hypervisor does for a VP's coming and going; `partition->input` is theirs. */
static u16 call_create(struct vid_vp *vp)
{
	struct vid_partition *partition = vp->partition;

	*(struct hv_create_vp *)partition->input = (struct hv_create_vp){
		.partition_id = partition->id,
		.vp_index = vp->index,
	};
	return vid_result_status(
		vid_hypercall_deposit(partition->id, HV_CALL_CREATE_VP, virt_to_phys(partition->input), 0));
}

static void call_delete(struct vid_vp *vp)
{
	struct vid_partition *partition = vp->partition;
	u16 status;

	*(struct hv_delete_vp *)partition->input = (struct hv_delete_vp){
		.partition_id = partition->id,
		.vp_index = vp->index,
	};
	status = vid_result_status(
		vid_hypercall_deposit(partition->id, HV_CALL_DELETE_VP, virt_to_phys(partition->input), 0));
	if (status != HV_STATUS_SUCCESS)
		pr_err_ratelimited("bulkhead: VP %u of partition %llu cannot be deleted: status %#x\n", vp->index,
				   partition->id, status);
}

static u16 call_state_page(struct vid_vp *vp, u16 code, enum vid_vp_page type)
{
	struct vid_partition *partition = vp->partition;
	bool map = code == HV_CALL_MAP_VP_STATE_PAGE;

	*(struct hv_vp_state_page *)partition->input = (struct hv_vp_state_page){
		.partition_id = partition->id,
		.vp_index = vp->index,
		.type = type,
		.flags = map ? HV_VP_STATE_PAGE_LOCATION_GIVEN : 0,
		.pfn = map ? page_to_pfn(vp->state_pages[type]) : 0,
	};
	return vid_result_status(vid_hypercall_deposit(partition->id, code, virt_to_phys(partition->input),
						       virt_to_phys(partition->output)));
}

/*
 * The hypervisor writes into the state pages until it is told not to. If that fails, they must never be anything else:
 * one reference is given up.
 */
static void unmap_state_page(struct vid_vp *vp, enum vid_vp_page type)
{
	if (call_state_page(vp, HV_CALL_UNMAP_VP_STATE_PAGE, type) != HV_STATUS_SUCCESS) {
		pr_err_ratelimited("bulkhead: a state page of VP %u of partition %llu cannot be unmapped\n", vp->index,
				   vp->partition->id);
		get_page(vp->state_pages[type]);
	}
}

static int vp_start(struct vid_vp *vp)
{
	u16 status = call_create(vp);

	if (status != HV_STATUS_SUCCESS)
		return vid_status_to_errno(status);
	status = call_state_page(vp, HV_CALL_MAP_VP_STATE_PAGE, VID_VP_REGISTERS);
	if (status != HV_STATUS_SUCCESS)
		goto no_registers;
	status = call_state_page(vp, HV_CALL_MAP_VP_STATE_PAGE, VID_VP_INTERCEPT_MESSAGE);
	if (status != HV_STATUS_SUCCESS)
		goto no_message;
	return 0;

no_message:
	unmap_state_page(vp, VID_VP_REGISTERS);
no_registers:
	call_delete(vp);
	return vid_status_to_errno(status);
}

void vid_vp_remove(struct vid_vp *vp)
{
	struct vid_partition *partition = vp->partition;

	lockdep_assert_held(&partition->lock);
	if (vp->removed)
		return;
	WRITE_ONCE(vp->removed, true);
	vid_vp_kick(vp);
	mutex_lock(&vp->lock);
	unmap_state_page(vp, VID_VP_INTERCEPT_MESSAGE);
	unmap_state_page(vp, VID_VP_REGISTERS);
	call_delete(vp);
	RCU_INIT_POINTER(partition->vps[vp->index], NULL);
	mutex_unlock(&vp->lock);
}

int vid_vp_create(struct vid_partition *partition, const struct bulkhead_create_vp __user *argument)
{
	struct bulkhead_create_vp request;
	struct vid_vp *vp;
	int result;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	if (request.reserved || request.vp_index >= VID_MAXIMUM_VPS)
		return -EINVAL;
	if (rcu_access_pointer(partition->vps[request.vp_index]))
		return -EEXIST;
	vp = vp_allocate(partition, request.vp_index);
	if (!vp)
		return -ENOMEM;
	result = vp_start(vp);
	if (result) {
		vp_free(vp);
		return result;
	}
	rcu_assign_pointer(partition->vps[vp->index], vp);
	kref_get(&partition->references);
	result = anon_inode_getfd("bulkhead-vp", &vp_operations, vp, O_RDWR | O_CLOEXEC);
	if (result < 0) {
		vid_vp_remove(vp);
		vp_free(vp);
		/* Not the last one: the caller has the partition's descriptor. */
		vid_partition_put(partition);
	}
	return result;
}

static int vp_file_release(struct inode *inode, struct file *file)
{
	struct vid_vp *vp = file->private_data;
	struct vid_partition *partition = vp->partition;

	mutex_lock(&partition->lock);
	vid_vp_remove(vp);
	mutex_unlock(&partition->lock);
	vp_free(vp);
	vid_partition_put(partition);
	return 0;
}

static int vp_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vid_vp *vp = file->private_data;
	unsigned long count = vma_pages(vma);
	unsigned long i;
	int error;

	if (vma->vm_pgoff >= VID_VP_STATE_PAGES || count > VID_VP_STATE_PAGES - vma->vm_pgoff ||
	    !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	/*
	 * As page frames, not as pages, so that they cannot be pinned and given to a guest. They live as long as the
	 * VP, which the mapping keeps by its file.
	 */
	vm_flags_set(vma, VM_DONTCOPY);
	for (i = 0; i < count; i++) {
		error = remap_pfn_range(vma, vma->vm_start + i * PAGE_SIZE,
					page_to_pfn(vp->state_pages[vma->vm_pgoff + i]), PAGE_SIZE, vma->vm_page_prot);
		if (error)
			return error;
	}
	return 0;
}

static long vp_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct vid_vp *vp = file->private_data;

	switch (command) {
	case BULKHEAD_RUN_VP:
		return argument ? -EINVAL : vid_vp_run(vp);
	case BULKHEAD_CANCEL_VP:
		return argument ? -EINVAL : vid_vp_cancel(vp);
	case BULKHEAD_GET_VP_REGISTERS:
		return vid_vp_registers_get(vp, (void __user *)argument);
	case BULKHEAD_SET_VP_REGISTERS:
		return vid_vp_registers_set(vp, (void __user *)argument);
	case BULKHEAD_GET_VP_STATE:
		return vid_vp_state_get(vp, (void __user *)argument);
	case BULKHEAD_SET_VP_STATE:
		return vid_vp_state_set(vp, (void __user *)argument);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations vp_operations = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = vp_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = vp_mmap,
	.release = vp_file_release,
};
