// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory objects: a range of a process's memory, pinned. The pages are kept as runs of physically contiguous ones,
 * which are few where the process got large pages.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "bulkhead.h"

#define PAGES_AT_ONCE (PAGE_SIZE / sizeof(struct page *))

static const struct file_operations memory_operations;

static void memory_destroy(struct vid_memory *memory)
{
	u64 page_count = 0;
	u32 i;

	for (i = 0; i < memory->run_count; i++) {
		const struct vid_memory_run *run = &memory->runs[i];

		unpin_user_page_range_dirty_lock(pfn_to_page(run->pfn), run->page_count, !memory->read_only);
		page_count += run->page_count;
		cond_resched();
	}
	atomic64_sub(page_count, &memory->mm->pinned_vm);
	mmdrop(memory->mm);
	kvfree(memory->runs);
	kfree(memory);
}

static void memory_release(struct kref *references)
{
	memory_destroy(container_of(references, struct vid_memory, references));
}

void vid_memory_put(struct vid_memory *memory)
{
	kref_put(&memory->references, memory_release);
}

static int grow_runs(struct vid_memory *memory)
{
	u32 capacity = memory->run_capacity ? memory->run_capacity * 2 : 16;
	struct vid_memory_run *runs;

	if (capacity <= memory->run_capacity)
		return -ENOMEM;
	runs = kvmalloc_array(capacity, sizeof(*runs), GFP_KERNEL_ACCOUNT);
	if (!runs)
		return -ENOMEM;
	if (memory->run_count)
		memcpy(runs, memory->runs, memory->run_count * sizeof(*runs));
	kvfree(memory->runs);
	memory->runs = runs;
	memory->run_capacity = capacity;
	return 0;
}

/* Takes over the pin of a page; not if it fails. */
static int append_page(struct vid_memory *memory, u64 pfn)
{
	struct vid_memory_run *last = memory->run_count ? &memory->runs[memory->run_count - 1] : NULL;
	int error;

	if (last && last->pfn + last->page_count == pfn) {
		last->page_count++;
	} else {
		if (memory->run_count == memory->run_capacity) {
			error = grow_runs(memory);
			if (error)
				return error;
		}
		memory->runs[memory->run_count++] = (struct vid_memory_run){
			.first_page = memory->page_count,
			.page_count = 1,
			.pfn = pfn,
		};
	}
	memory->page_count++;
	atomic64_inc(&memory->mm->pinned_vm);
	return 0;
}

static int pin_pages(struct vid_memory *memory, unsigned long address, u64 page_count, struct page **pages)
{
	const unsigned int flags = FOLL_LONGTERM | (memory->read_only ? 0 : FOLL_WRITE);
	int pinned, i, error;

	while (memory->page_count < page_count) {
		if (fatal_signal_pending(current))
			return -EINTR;
		pinned = pin_user_pages_fast(address + (memory->page_count << PAGE_SHIFT),
					     min_t(u64, page_count - memory->page_count, PAGES_AT_ONCE), flags, pages);
		if (pinned <= 0)
			return pinned ?: -EFAULT;
		for (i = 0; i < pinned; i++) {
			error = append_page(memory, page_to_pfn(pages[i]));
			if (error) {
				unpin_user_pages(pages + i, pinned - i);
				return error;
			}
		}
		cond_resched();
	}
	return 0;
}

int vid_memory_create(const struct bulkhead_create_memory __user *argument)
{
	struct bulkhead_create_memory request;
	struct vid_memory *memory;
	struct page **pages;
	int result;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	if (request.reserved || request.flags & ~BULKHEAD_MEMORY_READ_ONLY || !request.size ||
	    !PAGE_ALIGNED(request.user_address) || !PAGE_ALIGNED(request.size) ||
	    request.user_address + request.size < request.user_address)
		return -EINVAL;
	if (request.size >> PAGE_SHIFT > totalram_pages())
		return -ENOMEM;

	memory = kzalloc(sizeof(*memory), GFP_KERNEL_ACCOUNT);
	if (!memory)
		return -ENOMEM;
	kref_init(&memory->references);
	memory->read_only = request.flags & BULKHEAD_MEMORY_READ_ONLY;
	memory->mm = current->mm;
	mmgrab(memory->mm);

	pages = (struct page **)__get_free_page(GFP_KERNEL);
	result = pages ? pin_pages(memory, request.user_address, request.size >> PAGE_SHIFT, pages) : -ENOMEM;
	free_page((unsigned long)pages);
	if (!result)
		result = anon_inode_getfd("bulkhead-memory", &memory_operations, memory, O_RDWR | O_CLOEXEC);
	if (result < 0)
		vid_memory_put(memory);
	return result;
}

struct vid_memory *vid_memory_get(u32 fd)
{
	struct file *file = fget(fd);
	struct vid_memory *memory = ERR_PTR(-EINVAL);

	if (!file)
		return ERR_PTR(-EBADF);
	if (file->f_op == &memory_operations) {
		memory = file->private_data;
		kref_get(&memory->references);
	}
	fput(file);
	return memory;
}

const struct vid_memory_run *vid_memory_find(const struct vid_memory *memory, u64 page)
{
	u32 low = 0;
	u32 high = memory->run_count;

	while (high - low > 1) {
		u32 middle = low + (high - low) / 2;

		if (memory->runs[middle].first_page <= page)
			low = middle;
		else
			high = middle;
	}
	return &memory->runs[low];
}

static int memory_file_release(struct inode *inode, struct file *file)
{
	vid_memory_put(file->private_data);
	return 0;
}

static const struct file_operations memory_operations = {
	.owner = THIS_MODULE,
	.release = memory_file_release,
};
