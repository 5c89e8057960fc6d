/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The deposit arena. Memory that the hypervisor uses for a partition is lent to it by the root, page by page, and is
 * not accessible here as long as it is lent. The hypervisor refuses to take pages of a 2 MiB region in which it maps
 * others to children; so we lend out of chunks of 2 MiB that are all ours, shared by all partitions. A chunk that is
 * whole again returns to the kernel.
 *
 *   chunk (2 MiB)   [lent to 5][lent to 5][lent to root][      ][lent to 6] ... [      ]
 *
 * Who holds which page is the hypervisor's bookkeeping: it may move a page from one pool to the root's. We know only
 * which are out.
 */
#ifndef BULKHEAD_VID_DEPOSIT_H
#define BULKHEAD_VID_DEPOSIT_H

#include <linux/types.h>

int vid_deposit_start(void);
/* Takes back what the root holds for itself. Chunks that the hypervisor keeps are lost to the kernel. */
void vid_deposit_stop(void);
/* Lends `count` pages, 1 to 511, to the pool of a partition. */
int vid_deposit(u64 pool, u32 count);
/* Takes back what is free in a pool. `false` if the hypervisor refused. */
bool vid_withdraw(u64 pool);

#endif
