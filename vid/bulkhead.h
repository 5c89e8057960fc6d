/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The root partition's driver: it gives user space the hypervisor's partitions as file descriptors (abi/vid.h).
 *
 *   memory fd ──▶ vid_memory ◀── vid_mapping ──┐                 deposit arena: 2 MiB chunks of the root's memory,
 * whose ▼                 pages the hypervisor holds, for each partition and for partition fd ─────────────────────▶
 * vid_partition ──▶ pool   the root itself ▲ VP fd, its mmap ──▶ vid_vp ────────────────┘
 *
 * An arrow holds a reference. What a partition was made of goes back in vid_partition_tear_down: when the last
 * descriptor is closed, or when the machine restarts. It is the only way back, so that it is always exercised.
 *
 * Locks, in the order in which they are taken:
 *   vid_partitions_lock   the list of partitions, and whether new ones may come
 *   vid_partition.lock    mappings, coming and going of VPs, the partition's parameter pages
 *   vid_vp.lock           held by the thread that uses a VP; others get EBUSY
 *   the arena's           chunks, and the parameter pages for deposits
 *   vid_partition.interrupt_lock   a spinlock, for the parameters of interrupts, messages and events
 */
#ifndef BULKHEAD_VID_BULKHEAD_H
#define BULKHEAD_VID_BULKHEAD_H

#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/maple_tree.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include "abi/vid.h"

#define VID_MAXIMUM_VPS 64 /* the bits of a wake set */

/* device.c */

/* Of the time stamp counter, in kHz. Constant after load. */
extern u32 vid_tsc_khz;

/* memory.c: pages of user space that stay where they are. */

/* Pages of a memory object that follow one another in physical memory too. */
struct vid_memory_run {
	u64 first_page; /* within the object */
	u64 page_count;
	u64 pfn;
};

struct vid_memory {
	struct kref references;
	struct mm_struct *mm; /* for its account of pinned memory */
	bool read_only;
	u64 page_count;
	u32 run_count;
	u32 run_capacity;
	struct vid_memory_run *runs;
};

/* Returns a descriptor. */
int vid_memory_create(const struct bulkhead_create_memory __user *argument);
/* A reference to the object behind a descriptor of the calling process, or an error pointer. */
struct vid_memory *vid_memory_get(u32 fd);
void vid_memory_put(struct vid_memory *memory);
/* The run that holds page number `page` of the object, which must have that many. */
const struct vid_memory_run *vid_memory_find(const struct vid_memory *memory, u64 page);

/* partition.c: what a partition is in this driver. */
/* Parameters of the calls 0x94, 0xc0 and 0xc1, which are made with interrupt_lock held. */
struct vid_delivery {
	union {
		struct hv_assert_virtual_interrupt interrupt;
		struct hv_signal_event_direct event;
		struct hv_post_message_direct message;
	};
	union {
		struct hv_wake_set woken;
		struct hv_signal_event_direct_output signaled;
	};
};
/* It is allocated with this power of two, so that it does not cross a page. */
#define VID_DELIVERY_SIZE 512
static_assert(sizeof(struct vid_delivery) <= VID_DELIVERY_SIZE);

struct vid_partition {
	struct kref references;
	struct list_head node; /* of the list of all */
	u64 id; /* the hypervisor's; 0 if it made none */
	struct mutex lock;
	bool torn_down;
	struct maple_tree mappings; /* GPA page -> struct vid_mapping */
	struct vid_vp __rcu *vps[VID_MAXIMUM_VPS];
	void *input; /* a page each, for the parameters of calls made under `lock` */
	void *output;
	spinlock_t interrupt_lock;
	struct vid_delivery *delivery;
	u32 last_boosted; /* the VP that last got a spinning sibling's time */
};

/* Returns a descriptor. */
int vid_partition_create(const struct bulkhead_create_partition __user *argument);
void vid_partition_put(struct vid_partition *partition);
/* Ends every partition, whoever still holds it, and lets no new one come. */
void vid_partitions_close(void);
/* Wakes VPs of a wake set. */
void vid_partition_wake(struct vid_partition *partition, u64 wake_set);

/* mapping.c: guest memory. Both under the partition's lock. */
int vid_mapping_add(struct vid_partition *partition, const struct bulkhead_map_memory __user *argument);
int vid_mapping_remove(struct vid_partition *partition, const struct bulkhead_unmap_memory __user *argument);
/*
 * Forgets all mappings without telling the hypervisor, to which the partition is gone. `unpin` is false if it could
 * not be made to let go of the memory: then the pages stay pinned for good.
 */
void vid_mappings_drop(struct vid_partition *partition, bool unpin);

/* interrupt.c */
int vid_interrupt_assert(struct vid_partition *partition, const struct bulkhead_assert_interrupt __user *argument);
int vid_message_post(struct vid_partition *partition, const struct bulkhead_post_message __user *argument);
int vid_event_signal(struct vid_partition *partition, const struct bulkhead_signal_event __user *argument);

/* vp.c: a virtual processor. */

/* The parameters of 0xc2, at the start of a page of the VP. */
struct vid_dispatch {
	struct hv_dispatch_vp input;
	u64 reserved;
	struct hv_dispatch_vp_output output;
};

enum vid_vp_page { VID_VP_REGISTERS, VID_VP_INTERCEPT_MESSAGE, VID_VP_STATE_PAGES };

struct vid_vp {
	/* What the run loop uses. */
	struct mutex lock;
	struct vid_dispatch *dispatch;
	struct vid_partition *partition;
	struct task_struct *runner; /* the thread in RUN_VP */
	bool wake; /* it was blocked and is no more */
	bool cancelled;
	bool removed; /* the hypervisor does not know it any more */
	bool intercepted; /* the last dispatch ended with an intercept */
	int timer_cpu;
	u64 timer_armed; /* the TSC value that `timer` stands for; 0: it is not armed */
	u64 timer_wanted; /* by the VP; 0: no timer runs */
	struct hrtimer timer;
	wait_queue_head_t queue;

	u32 index;
	void *input; /* a page each, for the parameters of register calls */
	void *output;
	struct page *state_pages[VID_VP_STATE_PAGES];
	struct rcu_head rcu;
};

/* Returns a descriptor. Under the partition's lock. */
int vid_vp_create(struct vid_partition *partition, const struct bulkhead_create_vp __user *argument);
/* Stops the VP, waits for its thread to leave it, and deletes it in the hypervisor. Under the partition's lock. */
void vid_vp_remove(struct vid_vp *vp);

/* run.c: running it. */
int vid_vp_run(struct vid_vp *vp);
int vid_vp_cancel(struct vid_vp *vp);
/* Makes a blocked VP go on. From any context. */
void vid_vp_wake(struct vid_vp *vp);
/* Makes the thread in RUN_VP look at why it should stop. */
void vid_vp_kick(struct vid_vp *vp);
enum hrtimer_restart vid_vp_timer_expired(struct hrtimer *timer);

/* registers.c */
int vid_vp_registers_get(struct vid_vp *vp, struct bulkhead_vp_registers __user *argument);
int vid_vp_registers_set(struct vid_vp *vp, struct bulkhead_vp_registers __user *argument);

/* state.c */
int vid_vp_state_get(struct vid_vp *vp, struct bulkhead_vp_state __user *argument);
int vid_vp_state_set(struct vid_vp *vp, struct bulkhead_vp_state __user *argument);

#endif
