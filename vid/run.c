// SPDX-License-Identifier: GPL-2.0-only
/*
 * Running a virtual processor. The hypervisor runs it on the calling processor until something happens; interrupts are
 * disabled here, so that those of our devices, which make the hypervisor return, are taken right after it:
 *
 *                      ┌──────────────────────────────────────────────────────────────┐
 *   RUN_VP ──▶ reason to stop? ──▶ arm timer ──▶ dispatch ──▶ ready: interrupts ──────┤
 *              │                                   │   └─────▶ blocked: sleep ────────┘
 *              ▼                                   ▼
 *        EINTR, CANCELLED                INTERCEPT, SUSPENDED
 *
 * Who has a reason for the thread to stop or to wake up sets a flag of the VP first and then kicks or wakes it; the
 * thread looks at the flags with interrupts disabled. So a reason that arises after that look finds an interrupt
 * pending, which ends the dispatch at once, or ends the sleep.
 */
#include <linux/hrtimer.h>
#include <linux/io.h>
#include <linux/math64.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <asm/tsc.h>

#include "bulkhead.h"
#include "deposit.h"
#include "hypercall.h"

/* A timer further away than this is looked at again on the way, so that no product overflows. */
#define TIMER_FAR_MS 60000u
/* How long work that waits for this thread's return to user space (TIF_NOTIFY_RESUME) may be kept waiting. */
#define RESUME_WORK_DELAY (HZ / 100 ?: 1)
/* More memory that a running VP turned out to need. */
#define DISPATCH_DEPOSIT 16

void vid_vp_wake(struct vid_vp *vp)
{
	WRITE_ONCE(vp->wake, true);
	/* The flag is seen by a sleeper that we do not see yet: its own barrier pairs with this one. */
	if (wq_has_sleeper(&vp->queue))
		wake_up(&vp->queue);
}

void vid_vp_kick(struct vid_vp *vp)
{
	struct task_struct *runner;

	vid_vp_wake(vp);
	rcu_read_lock();
	runner = READ_ONCE(vp->runner);
	if (runner)
		kick_process(runner);
	rcu_read_unlock();
}

enum hrtimer_restart vid_vp_timer_expired(struct hrtimer *timer)
{
	struct vid_vp *vp = container_of(timer, struct vid_vp, timer);

	WRITE_ONCE(vp->timer_armed, 0);
	/* Its thread may have moved to another processor, which this interrupt does not disturb. */
	vid_vp_kick(vp);
	return HRTIMER_NORESTART;
}

int vid_vp_cancel(struct vid_vp *vp)
{
	WRITE_ONCE(vp->cancelled, true);
	vid_vp_kick(vp);
	return 0;
}

/* Lets an interrupt come to this processor when the VP's own timer expires. With preemption disabled. */
static void arm_timer(struct vid_vp *vp)
{
	u64 wanted = vp->timer_wanted;
	u64 armed = READ_ONCE(vp->timer_armed);
	int cpu = smp_processor_id();
	u64 now, ticks;

	if (!wanted || (armed && armed <= wanted && vp->timer_cpu == cpu))
		return;
	now = rdtsc_ordered();
	if (wanted <= now)
		return; /* the hypervisor sees that itself at the next dispatch */
	ticks = min_t(u64, wanted - now, (u64)vid_tsc_khz * TIMER_FAR_MS);
	vp->timer_cpu = cpu;
	WRITE_ONCE(vp->timer_armed, now + ticks);
	hrtimer_start(&vp->timer, ns_to_ktime(mul_u64_u32_div(ticks, NSEC_PER_MSEC, vid_tsc_khz)),
		      HRTIMER_MODE_REL_PINNED_HARD);
}

/* Whether RUN_VP should end, and how. */
static bool stopped(struct vid_vp *vp, unsigned long entered, int *result)
{
	if (READ_ONCE(vp->removed)) {
		*result = -ENODEV;
		return true;
	}
	if (READ_ONCE(vp->cancelled) && xchg(&vp->cancelled, false)) {
		*result = BULKHEAD_RUN_CANCELLED;
		return true;
	}
	if (signal_pending(current)) {
		*result = -EINTR;
		return true;
	}
	/*
	 * Work for the return to user space is queued at every switch of threads (rseq), so going back for it at once
	 * would be costly for a VP that halts often. But it must not wait for long. The look for signals, which finds
	 * none, makes the kernel call us again after the work, and user space sees nothing of it.
	 */
	if (test_thread_flag(TIF_NOTIFY_RESUME) && time_after(jiffies, entered + RESUME_WORK_DELAY)) {
		set_thread_flag(TIF_SIGPENDING);
		*result = -ERESTARTNOINTR;
		return true;
	}
	return false;
}

/* Sleeps until the VP is woken or something of stopped() comes up. */
static void block(struct vid_vp *vp)
{
	preempt_disable();
	arm_timer(vp);
	preempt_enable();
	/* Its timer has run out already. */
	if (vp->timer_wanted && rdtsc_ordered() >= vp->timer_wanted)
		return;
	wait_event_interruptible(vp->queue, READ_ONCE(vp->wake) || READ_ONCE(vp->cancelled) || READ_ONCE(vp->removed));
}

/*
 * The VP spins for what a sibling holds. If a sibling's thread is ready to run and does not, it gets this one's time.
 * They take turns, since nobody knows which of them it is.
 */
static void yield_to_sibling(struct vid_vp *vp)
{
	struct vid_partition *partition = vp->partition;
	u32 i;

	for (i = 1; i < VID_MAXIMUM_VPS; i++) {
		u32 index = (READ_ONCE(partition->last_boosted) + i) % VID_MAXIMUM_VPS;
		struct task_struct *runner = NULL;
		struct vid_vp *sibling;

		rcu_read_lock();
		sibling = rcu_dereference(partition->vps[index]);
		if (sibling && sibling != vp)
			runner = READ_ONCE(sibling->runner);
		if (runner)
			get_task_struct(runner);
		rcu_read_unlock();
		if (!runner)
			continue;
		if (yield_to(runner, true) > 0) {
			WRITE_ONCE(partition->last_boosted, index);
			i = VID_MAXIMUM_VPS;
		}
		put_task_struct(runner);
	}
}

/* One dispatch. `true` if RUN_VP ends with it. */
static bool dispatch(struct vid_vp *vp, int *result)
{
	struct vid_dispatch *call = vp->dispatch;
	u32 state, event;
	u64 wake_set;
	u16 status;

	/* With interrupts disabled up to and behind the call; they are taken while the time still counts as the
	 * guest's. */
	WRITE_ONCE(vp->wake, false);
	arm_timer(vp);
	call->input.flags = vp->intercepted ? HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND : 0;
	call->input.timer_armed = READ_ONCE(vp->timer_armed);
	current->flags |= PF_VCPU;
	status = vid_result_status(
		vid_hypercall(HV_CALL_DISPATCH_VP, virt_to_phys(&call->input), virt_to_phys(&call->output)));
	local_irq_enable();
	current->flags &= ~PF_VCPU;

	if (unlikely(status != HV_STATUS_SUCCESS)) {
		if (status == HV_STATUS_INSUFFICIENT_MEMORY && !vid_deposit(vp->partition->id, DISPATCH_DEPOSIT))
			return false;
		pr_err_ratelimited("bulkhead: dispatch of VP %u of partition %llu: status %#x\n", vp->index,
				   vp->partition->id, status);
		*result = status == HV_STATUS_INSUFFICIENT_MEMORY ? -ENOMEM : -EIO;
		return true;
	}
	state = call->output.state;
	event = call->output.event;
	wake_set = call->output.wake_set;
	vp->timer_wanted = call->output.timer_deadline;
	vp->intercepted = event == HV_DISPATCH_EVENT_INTERCEPT;
	if (wake_set)
		vid_partition_wake(vp->partition, wake_set);
	if (event == HV_DISPATCH_EVENT_SPIN) {
		yield_to_sibling(vp);
		return false;
	}
	if (event == HV_DISPATCH_EVENT_NONE) {
		if (state == HV_DISPATCH_STATE_BLOCKED)
			block(vp);
		return false;
	}
	*result = vp->intercepted ? BULKHEAD_RUN_INTERCEPT : BULKHEAD_RUN_SUSPENDED;
	return true;
}

int vid_vp_run(struct vid_vp *vp)
{
	unsigned long entered = jiffies;
	int result = 0;

	if (!mutex_trylock(&vp->lock))
		return -EBUSY;
	/* Before the first look at the flags: who sets one and sees no runner relies on that look. */
	smp_store_mb(vp->runner, current);
	for (;;) {
		if (need_resched())
			cond_resched();
		local_irq_disable();
		if (stopped(vp, entered, &result)) {
			local_irq_enable();
			break;
		}
		if (dispatch(vp, &result))
			break;
	}
	WRITE_ONCE(vp->runner, NULL);
	mutex_unlock(&vp->lock);
	return result;
}
