/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The virtualization infrastructure driver's interface: /dev/bulkhead in the root partition.
 *
 *   open("/dev/bulkhead") ──┬── CREATE_MEMORY ────▶ memory fd      pinned pages of the caller
 *                           └── CREATE_PARTITION ─▶ partition fd ── CREATE_VP ─▶ VP fd ── mmap: state pages
 *
 * A descriptor keeps alive what it was made from. When the last descriptor of a partition and of its VPs is closed,
 * however its process ended, the partition is torn down and all memory goes back.
 *
 * Calls return 0 or a positive number, or -1 with errno: EINVAL for a request that is wrong in itself, EPERM, ENOMEM,
 * ENODEV when the hypervisor is not there, EBUSY, EIO with `status` filled in where the structure has one when the
 * hypervisor refused. Reserved fields must be zero.
 */
#ifndef BULKHEAD_ABI_VID_H
#define BULKHEAD_ABI_VID_H

#include "hypercall.h"

#ifdef __KERNEL__
#include <linux/ioctl.h>
#else
#include <sys/ioctl.h>
#endif

#define BULKHEAD_DEVICE "/dev/bulkhead"
#define BULKHEAD_VID_VERSION 4

/* On the device. */
struct bulkhead_information {
	__u32 vid_version; /* BULKHEAD_VID_VERSION */
	__u32 reserved;
	struct hv_bulkhead_information hypervisor;
};
HV_LAYOUT(struct bulkhead_information, 88);

/* Pins [user_address, user_address + size), both multiples of 4096. Returns a memory fd. */
struct bulkhead_create_memory {
	__u64 user_address;
	__u64 size;
	__u32 flags; /* BULKHEAD_MEMORY_* */
	__u32 reserved;
};
HV_LAYOUT(struct bulkhead_create_memory, 24);
#define BULKHEAD_MEMORY_READ_ONLY 1u /* the caller has no write access to it itself */

/* Creates a partition (call 0x40). Returns a partition fd. INITIALIZE_PARTITION makes it active. */
struct bulkhead_create_partition {
	__u64 creation_flags; /* HV_PARTITION_CREATION_* */
	__u64 reserved[3];
};
HV_LAYOUT(struct bulkhead_create_partition, 32);

/* On a partition. */

/*
 * Maps `size` bytes at `offset` of a memory object at `gpa`; all three are multiples of 4096. Large pages are used
 * where the memory allows it. The mapping keeps the memory object alive. EEXIST if something is mapped there already.
 */
struct bulkhead_map_memory {
	__u32 memory_fd;
	__u32 access; /* HV_MAP_GPA_READABLE | WRITABLE | KERNEL_EXECUTABLE | USER_EXECUTABLE */
	__u64 offset;
	__u64 gpa;
	__u64 size;
};
HV_LAYOUT(struct bulkhead_map_memory, 32);

/* Unmaps exactly one earlier mapping. ENOENT if there is none with this `gpa` and `size`. */
struct bulkhead_unmap_memory {
	__u64 gpa;
	__u64 size;
};
HV_LAYOUT(struct bulkhead_unmap_memory, 16);

/* Returns a VP fd. mmap of it at offset 0: the register page; at offset 4096: the intercept message page. */
struct bulkhead_create_vp {
	__u32 vp_index;
	__u32 reserved;
};
HV_LAYOUT(struct bulkhead_create_vp, 8);
#define BULKHEAD_VP_MMAP_SIZE 8192u

/* Call 0x94; the VPs that it wakes are woken. */
struct bulkhead_assert_interrupt {
	__u32 interrupt_type; /* enum hv_interrupt_type */
	__u32 flags; /* HV_INTERRUPT_* */
	__u64 destination;
	__u32 vector;
	__u32 reserved;
};
HV_LAYOUT(struct bulkhead_assert_interrupt, 24);

/* Call 0xc1; EAGAIN: not now, a SynicSintDeliverable message tells when to try again. */
struct bulkhead_post_message {
	__u32 vp_index;
	__u8 sint;
	__u8 reserved[3];
	__u8 message[256];
};
HV_LAYOUT(struct bulkhead_post_message, 264);

/* Call 0xc0; EAGAIN: the SynIC is off. */
struct bulkhead_signal_event {
	__u32 vp_index;
	__u16 flag;
	__u8 sint;
	__u8 reserved;
};
HV_LAYOUT(struct bulkhead_signal_event, 8);

/*
 * Any of the calls 0x44, 0x45, 0x4a, 0x4d, 0x91, 0xc9, 0xf4 for this partition. The driver puts in the partition id,
 * which is the first field of each, and deposits memory and repeats where the hypervisor asks for it. Sizes are at most
 * 4096 bytes. For a rep call, the last two, `repetitions` is the length of the list.
 */
struct bulkhead_hypercall {
	__u16 code;
	__u16 status; /* out: enum hv_status */
	__u32 input_size;
	__u64 input; /* user address */
	__u32 output_size;
	__u32 repetitions; /* 0: not a rep call */
	__u64 output; /* user address, or 0 */
};
HV_LAYOUT(struct bulkhead_hypercall, 32);

/* On a VP. Calls 0x50 and 0x51 for any number of registers; EIO if one is refused, `done` tells how many were not. */
struct bulkhead_vp_registers {
	__u32 count;
	__u16 status; /* out: enum hv_status */
	__u16 reserved;
	__u32 done; /* out */
	__u32 reserved2;
	__u64 assignments; /* user address of struct hv_register_assignment[count] */
};
HV_LAYOUT(struct bulkhead_vp_registers, 24);

/* On a VP. Calls 0xe3 and 0xe4. EIO if the hypervisor refuses the state. */
struct bulkhead_vp_state {
	__u32 type; /* enum hv_vp_state_type */
	__u16 status; /* out: enum hv_status */
	__u16 reserved;
	__u32 size; /* of a type in a page: HV_PAGE_SIZE at most; of others: that of their structure */
	__u32 reserved2;
	__u64 state; /* user address */
};
HV_LAYOUT(struct bulkhead_vp_state, 24);

/*
 * RUN_VP runs the VP until one of these, its return value. EINTR: a signal is pending. The message page, and the
 * register page with `valid` set, are as the hypervisor left them. The caller changes the register page and its dirty
 * bits and runs on. One thread at a time; a second one gets EBUSY.
 */
#define BULKHEAD_RUN_INTERCEPT 0
#define BULKHEAD_RUN_CANCELLED 1 /* CANCEL_VP was called since the last RUN_VP ended */
#define BULKHEAD_RUN_SUSPENDED 2 /* ExplicitSuspend is set */

#define BULKHEAD_IOCTL 0xB5
#define BULKHEAD_GET_INFORMATION _IOR(BULKHEAD_IOCTL, 0x00, struct bulkhead_information)
#define BULKHEAD_CREATE_MEMORY _IOW(BULKHEAD_IOCTL, 0x01, struct bulkhead_create_memory)
#define BULKHEAD_CREATE_PARTITION _IOW(BULKHEAD_IOCTL, 0x02, struct bulkhead_create_partition)
#define BULKHEAD_INITIALIZE_PARTITION _IO(BULKHEAD_IOCTL, 0x10)
#define BULKHEAD_MAP_MEMORY _IOW(BULKHEAD_IOCTL, 0x11, struct bulkhead_map_memory)
#define BULKHEAD_UNMAP_MEMORY _IOW(BULKHEAD_IOCTL, 0x12, struct bulkhead_unmap_memory)
#define BULKHEAD_CREATE_VP _IOW(BULKHEAD_IOCTL, 0x13, struct bulkhead_create_vp)
#define BULKHEAD_ASSERT_INTERRUPT _IOW(BULKHEAD_IOCTL, 0x14, struct bulkhead_assert_interrupt)
#define BULKHEAD_HYPERCALL _IOWR(BULKHEAD_IOCTL, 0x15, struct bulkhead_hypercall)
#define BULKHEAD_POST_MESSAGE _IOW(BULKHEAD_IOCTL, 0x16, struct bulkhead_post_message)
#define BULKHEAD_SIGNAL_EVENT _IOW(BULKHEAD_IOCTL, 0x17, struct bulkhead_signal_event)
#define BULKHEAD_RUN_VP _IO(BULKHEAD_IOCTL, 0x20)
#define BULKHEAD_CANCEL_VP _IO(BULKHEAD_IOCTL, 0x21)
#define BULKHEAD_GET_VP_REGISTERS _IOWR(BULKHEAD_IOCTL, 0x22, struct bulkhead_vp_registers)
#define BULKHEAD_SET_VP_REGISTERS _IOWR(BULKHEAD_IOCTL, 0x23, struct bulkhead_vp_registers)
#define BULKHEAD_GET_VP_STATE _IOWR(BULKHEAD_IOCTL, 0x24, struct bulkhead_vp_state)
#define BULKHEAD_SET_VP_STATE _IOWR(BULKHEAD_IOCTL, 0x25, struct bulkhead_vp_state)

#endif
