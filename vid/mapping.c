// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory: which part of which memory object a partition sees at which guest physical address. 2 MiB pages are
 * used where guest address and memory are both aligned to them and the memory is contiguous. The hypervisor wants pages
 * of one size in a call; so a mapping is walked in batches, in the same way for mapping and for unmapping.
 */
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "bulkhead.h"
#include "hypercall.h"

#define LARGE_PAGES (HV_LARGE_PAGE_SIZE / HV_PAGE_SIZE)
#define MAP_ACCESS                                                                                                     \
	(HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE | HV_MAP_GPA_KERNEL_EXECUTABLE | HV_MAP_GPA_USER_EXECUTABLE)

struct vid_mapping {
	struct vid_memory *memory;
	u64 memory_page; /* number of its first page within the memory object */
	u64 gpa_page;
	u64 page_count;
	u32 access;
};

struct map_input {
	struct hv_map_gpa_pages header;
	u64 sources[(HV_PAGE_SIZE - sizeof(struct hv_map_gpa_pages)) / sizeof(u64)];
};
static_assert(sizeof(struct map_input) == HV_PAGE_SIZE);
#define BATCH ARRAY_SIZE(((struct map_input *)0)->sources)

/* A place in a mapping, counted in pages from its start. */
struct cursor {
	const struct vid_mapping *mapping;
	const struct vid_memory_run *run;
	u64 page;
};

static struct cursor cursor_start(const struct vid_mapping *mapping)
{
	return (struct cursor){mapping, vid_memory_find(mapping->memory, mapping->memory_page), 0};
}

static u64 cursor_pfn(const struct cursor *cursor)
{
	return cursor->run->pfn + (cursor->mapping->memory_page + cursor->page - cursor->run->first_page);
}

static bool cursor_is_large(const struct cursor *cursor)
{
	const struct vid_memory_run *run = cursor->run;
	u64 left_in_run = run->first_page + run->page_count - cursor->mapping->memory_page - cursor->page;

	return IS_ALIGNED(cursor->mapping->gpa_page + cursor->page, LARGE_PAGES) &&
	       IS_ALIGNED(cursor_pfn(cursor), LARGE_PAGES) &&
	       min(left_in_run, cursor->mapping->page_count - cursor->page) >= LARGE_PAGES;
}

static void cursor_advance(struct cursor *cursor, bool large)
{
	const struct vid_memory_run *run = cursor->run;

	cursor->page += large ? LARGE_PAGES : 1;
	if (cursor->page < cursor->mapping->page_count &&
	    cursor->mapping->memory_page + cursor->page >= run->first_page + run->page_count)
		cursor->run++;
}

/* Moves on over the next pages of one size and lists where they are. */
static u32 cursor_batch(struct cursor *cursor, u64 *sources, bool large)
{
	u32 count = 0;

	do {
		sources[count++] = cursor_pfn(cursor);
		cursor_advance(cursor, large);
	} while (count < BATCH && cursor->page < cursor->mapping->page_count && cursor_is_large(cursor) == large);
	return count;
}

/* Unmaps the first `page_count` pages of a mapping, which were mapped by batches that ended there. */
static int unmap_pages(struct vid_partition *partition, const struct vid_mapping *mapping, u64 page_count)
{
	/* The list has no use in this call, but the same walk fills it in. */
	struct map_input *list = partition->output;
	struct hv_unmap_gpa_pages *input = partition->input;
	struct cursor cursor = cursor_start(mapping);
	u16 status;

	while (cursor.page < page_count) {
		bool large = cursor_is_large(&cursor);
		u64 first = cursor.page;
		u32 count = cursor_batch(&cursor, list->sources, large);

		if (cursor.page > page_count)
			count = (page_count - first) / (large ? LARGE_PAGES : 1);
		*input = (struct hv_unmap_gpa_pages){
			.target_partition_id = partition->id,
			.target_gpa_base = mapping->gpa_page + first,
			.unmap_flags = large ? HV_UNMAP_GPA_LARGE_PAGE : 0,
		};
		status = vid_result_status(vid_hypercall_deposit(
			partition->id, vid_control_rep(HV_CALL_UNMAP_GPA_PAGES, count), virt_to_phys(input), 0));
		if (status != HV_STATUS_SUCCESS) {
			pr_err_ratelimited("bulkhead: unmapping %u pages at %#llx of partition %llu: status %#x\n",
					   count, input->target_gpa_base << PAGE_SHIFT, partition->id, status);
			return -EIO;
		}
		cond_resched();
	}
	return 0;
}

static int map_pages(struct vid_partition *partition, const struct vid_mapping *mapping)
{
	struct map_input *input = partition->input;
	struct cursor cursor = cursor_start(mapping);
	u64 result;
	u16 status;

	while (cursor.page < mapping->page_count) {
		bool large = cursor_is_large(&cursor);
		u64 first = cursor.page;
		u32 count = cursor_batch(&cursor, input->sources, large);

		input->header = (struct hv_map_gpa_pages){
			.target_partition_id = partition->id,
			.target_gpa_base = mapping->gpa_page + first,
			.map_flags = mapping->access | (large ? HV_MAP_GPA_LARGE_PAGE : 0),
		};
		result = vid_hypercall_deposit(partition->id, vid_control_rep(HV_CALL_MAP_GPA_PAGES, count),
					       virt_to_phys(input), 0);
		status = vid_result_status(result);
		if (status != HV_STATUS_SUCCESS || fatal_signal_pending(current)) {
			u64 done = status == HV_STATUS_SUCCESS ? count : min(vid_result_repetitions(result), count);

			pr_debug("bulkhead: mapping %u pages at %#llx of partition %llu: status %#x after %llu\n",
				 count, (mapping->gpa_page + first) << PAGE_SHIFT, partition->id, status, done);
			if (unmap_pages(partition, mapping, first + done * (large ? LARGE_PAGES : 1)))
				return -ENOTRECOVERABLE;
			return status == HV_STATUS_SUCCESS ? -EINTR : vid_status_to_errno(status);
		}
		cond_resched();
	}
	return 0;
}

static void mapping_destroy(struct vid_mapping *mapping)
{
	vid_memory_put(mapping->memory);
	kfree(mapping);
}

/* Checks what user space asks for and makes the object. The hypervisor checks what depends on the machine. */
static struct vid_mapping *mapping_create(const struct bulkhead_map_memory *request)
{
	struct vid_mapping *mapping;
	struct vid_memory *memory;

	if (!request->size || !request->access || request->access & ~MAP_ACCESS || !PAGE_ALIGNED(request->offset) ||
	    !PAGE_ALIGNED(request->gpa) || !PAGE_ALIGNED(request->size) ||
	    request->gpa + request->size - 1 < request->gpa || request->offset + request->size < request->offset)
		return ERR_PTR(-EINVAL);
	memory = vid_memory_get(request->memory_fd);
	if (IS_ERR(memory))
		return ERR_CAST(memory);
	if ((request->offset + request->size) >> PAGE_SHIFT > memory->page_count ||
	    (memory->read_only && request->access & HV_MAP_GPA_WRITABLE)) {
		vid_memory_put(memory);
		return ERR_PTR(-EINVAL);
	}
	mapping = kzalloc(sizeof(*mapping), GFP_KERNEL_ACCOUNT);
	if (!mapping) {
		vid_memory_put(memory);
		return ERR_PTR(-ENOMEM);
	}
	mapping->memory = memory;
	mapping->memory_page = request->offset >> PAGE_SHIFT;
	mapping->gpa_page = request->gpa >> PAGE_SHIFT;
	mapping->page_count = request->size >> PAGE_SHIFT;
	mapping->access = request->access;
	return mapping;
}

int vid_mapping_add(struct vid_partition *partition, const struct bulkhead_map_memory __user *argument)
{
	struct bulkhead_map_memory request;
	struct vid_mapping *mapping;
	int error;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	mapping = mapping_create(&request);
	if (IS_ERR(mapping))
		return PTR_ERR(mapping);
	error = mtree_insert_range(&partition->mappings, mapping->gpa_page, mapping->gpa_page + mapping->page_count - 1,
				   mapping, GFP_KERNEL_ACCOUNT);
	if (error) {
		mapping_destroy(mapping);
		return error;
	}
	error = map_pages(partition, mapping);
	/* What the hypervisor does not let go stays listed, and with it pinned, until the partition ends. */
	if (error && error != -ENOTRECOVERABLE) {
		mtree_erase(&partition->mappings, mapping->gpa_page);
		mapping_destroy(mapping);
	}
	return error;
}

int vid_mapping_remove(struct vid_partition *partition, const struct bulkhead_unmap_memory __user *argument)
{
	struct bulkhead_unmap_memory request;
	struct vid_mapping *mapping;
	int error;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	if (!PAGE_ALIGNED(request.gpa) || !PAGE_ALIGNED(request.size))
		return -EINVAL;
	mapping = mtree_load(&partition->mappings, request.gpa >> PAGE_SHIFT);
	if (!mapping || mapping->gpa_page != request.gpa >> PAGE_SHIFT ||
	    mapping->page_count != request.size >> PAGE_SHIFT)
		return -ENOENT;
	error = unmap_pages(partition, mapping, mapping->page_count);
	if (error)
		return error;
	mtree_erase(&partition->mappings, mapping->gpa_page);
	mapping_destroy(mapping);
	return 0;
}

void vid_mappings_drop(struct vid_partition *partition, bool unpin)
{
	struct vid_mapping *mapping;
	unsigned long index = 0;

	mt_for_each(&partition->mappings, mapping, index, ULONG_MAX)
	{
		if (unpin)
			mapping_destroy(mapping);
	}
	mtree_destroy(&partition->mappings);
}
