// SPDX-License-Identifier: GPL-2.0-only
#include "deposit.h"

#include <linux/bitmap.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "hypercall.h"

#define CHUNK_ORDER (PMD_SHIFT - PAGE_SHIFT)
#define CHUNK_PAGES (1u << CHUNK_ORDER)

static_assert(CHUNK_PAGES * HV_PAGE_SIZE == HV_LARGE_PAGE_SIZE);

struct vid_chunk {
	struct list_head node;
	u64 pfn; /* of the first page */
	u32 lent_count;
	DECLARE_BITMAP(lent, CHUNK_PAGES);
};

/* The input of a deposit and the output of a withdrawal: a page each. */
struct deposit_input {
	struct hv_deposit_memory header;
	u64 pages[(HV_PAGE_SIZE - sizeof(struct hv_deposit_memory)) / sizeof(u64)];
};
static_assert(sizeof(struct deposit_input) == HV_PAGE_SIZE);

struct withdraw_output {
	u64 pages[HV_PAGE_SIZE / sizeof(u64)];
};

static struct {
	struct mutex lock;
	struct list_head chunks;
	struct xarray by_region; /* pfn >> CHUNK_ORDER -> struct vid_chunk */
	struct deposit_input *deposit;
	struct withdraw_output *withdrawn;
	struct hv_withdraw_memory *withdraw;
} arena = {
	.lock = __MUTEX_INITIALIZER(arena.lock),
	.chunks = LIST_HEAD_INIT(arena.chunks),
	.by_region = XARRAY_INIT(arena.by_region, 0),
};

static struct vid_chunk *chunk_create(void)
{
	struct vid_chunk *chunk = kzalloc(sizeof(*chunk), GFP_KERNEL);
	struct page *pages;

	if (!chunk)
		return NULL;
	pages = alloc_pages(GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN, CHUNK_ORDER);
	if (!pages)
		goto no_pages;
	chunk->pfn = page_to_pfn(pages);
	if (xa_err(xa_store(&arena.by_region, chunk->pfn >> CHUNK_ORDER, chunk, GFP_KERNEL)))
		goto no_entry;
	list_add_tail(&chunk->node, &arena.chunks);
	return chunk;

no_entry:
	__free_pages(pages, CHUNK_ORDER);
no_pages:
	kfree(chunk);
	return NULL;
}

static void chunk_forget(struct vid_chunk *chunk)
{
	xa_erase(&arena.by_region, chunk->pfn >> CHUNK_ORDER);
	list_del(&chunk->node);
	kfree(chunk);
}

static void chunk_destroy_if_whole(struct vid_chunk *chunk)
{
	if (chunk->lent_count)
		return;
	__free_pages(pfn_to_page(chunk->pfn), CHUNK_ORDER);
	chunk_forget(chunk);
}

/* A page is not lent any more. */
static void page_returned(u64 pfn)
{
	struct vid_chunk *chunk = xa_load(&arena.by_region, pfn >> CHUNK_ORDER);

	if (!chunk || !__test_and_clear_bit(pfn & (CHUNK_PAGES - 1), chunk->lent)) {
		/* A page of an earlier kernel's driver: whoever it belongs to can use it now. */
		pr_info_ratelimited("bulkhead: page %#llx came back that this driver has not lent\n", pfn);
		return;
	}
	chunk->lent_count--;
	chunk_destroy_if_whole(chunk);
}

/* Puts up to `count` free pages of the chunk into the list and marks them as lent. */
static u32 chunk_lend(struct vid_chunk *chunk, u64 *list, u32 count)
{
	unsigned long bit = 0;
	u32 done = 0;

	while (done < count) {
		bit = find_next_zero_bit(chunk->lent, CHUNK_PAGES, bit);
		if (bit >= CHUNK_PAGES)
			break;
		__set_bit(bit, chunk->lent);
		list[done++] = chunk->pfn + bit;
	}
	chunk->lent_count += done;
	return done;
}

static int pages_lend(u64 *list, u32 count)
{
	struct vid_chunk *chunk;
	u32 done = 0;

	list_for_each_entry(chunk, &arena.chunks, node)
	{
		done += chunk_lend(chunk, list + done, count - done);
		if (done == count)
			return 0;
	}
	chunk = chunk_create(); /* of more pages than any list has */
	if (chunk) {
		chunk_lend(chunk, list + done, count - done);
		return 0;
	}
	pr_warn_ratelimited("bulkhead: no 2 MiB of contiguous memory for the hypervisor\n");
	while (done)
		page_returned(list[--done]);
	return -ENOMEM;
}

int vid_deposit(u64 pool, u32 count)
{
	u32 taken, i;
	u64 result;
	int error;

	if (WARN_ON_ONCE(!count || count > ARRAY_SIZE(arena.deposit->pages)))
		return -EINVAL;
	mutex_lock(&arena.lock);
	arena.deposit->header.partition_id = pool;
	error = pages_lend(arena.deposit->pages, count);
	if (!error) {
		result = vid_hypercall(vid_control_rep(HV_CALL_DEPOSIT_MEMORY, count), virt_to_phys(arena.deposit), 0);
		taken = vid_result_repetitions(result);
		if (vid_result_status(result) != HV_STATUS_SUCCESS) {
			pr_warn_ratelimited("bulkhead: deposit of %u pages for partition %llu: status %#x after %u\n",
					    count, pool, vid_result_status(result), taken);
			error = vid_status_to_errno(vid_result_status(result));
			for (i = min(taken, count); i < count; i++)
				page_returned(arena.deposit->pages[i]);
		}
	}
	mutex_unlock(&arena.lock);
	return error;
}

bool vid_withdraw(u64 pool)
{
	const u32 room = ARRAY_SIZE(arena.withdrawn->pages);
	u32 count, i;
	u64 result;
	u16 status;

	mutex_lock(&arena.lock);
	do {
		arena.withdraw->partition_id = pool;
		arena.withdraw->proximity_domain = 0;
		result = vid_hypercall(vid_control_rep(HV_CALL_WITHDRAW_MEMORY, room), virt_to_phys(arena.withdraw),
				       virt_to_phys(arena.withdrawn));
		status = vid_result_status(result);
		count = min(vid_result_repetitions(result), room);
		for (i = 0; i < count; i++)
			page_returned(arena.withdrawn->pages[i]);
		/* Not until the first NO_RESOURCES: what came back may have set more free. */
	} while (count);
	mutex_unlock(&arena.lock);

	if (status == HV_STATUS_SUCCESS || status == HV_STATUS_NO_RESOURCES)
		return true;
	pr_warn_ratelimited("bulkhead: withdrawal from partition %llu: status %#x\n", pool, status);
	return false;
}

int vid_deposit_start(void)
{
	arena.deposit = (void *)get_zeroed_page(GFP_KERNEL);
	arena.withdraw = (void *)get_zeroed_page(GFP_KERNEL);
	arena.withdrawn = (void *)get_zeroed_page(GFP_KERNEL);
	if (arena.deposit && arena.withdraw && arena.withdrawn)
		return 0;
	vid_deposit_stop();
	return -ENOMEM;
}

void vid_deposit_stop(void)
{
	struct vid_chunk *chunk, *next;

	if (arena.deposit && arena.withdraw && arena.withdrawn)
		vid_withdraw(HV_PARTITION_ID_SELF);
	list_for_each_entry_safe(chunk, next, &arena.chunks, node)
	{
		pr_warn("bulkhead: the hypervisor keeps %u pages from %#llx on: 2 MiB are lost until the machine "
			"restarts\n",
			chunk->lent_count, chunk->pfn << PAGE_SHIFT);
		chunk_forget(chunk);
	}
	free_page((unsigned long)arena.deposit);
	free_page((unsigned long)arena.withdraw);
	free_page((unsigned long)arena.withdrawn);
	arena.deposit = NULL;
	arena.withdraw = NULL;
	arena.withdrawn = NULL;
}
