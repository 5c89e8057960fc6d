/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Hypercalls: codes, status values and parameter layouts, as the TLFS ("Hypervisor Top Level Functional
 * Specification") gives them. This header is C, because the root partition's driver includes it too.
 *
 * The control word of a call (TLFS "Hypercall Inputs"):
 *
 *    63..60  59..48     47..44  43..32     31      30..27  26..17            16    15..0
 *   +-------+----------+-------+----------+-------+-------+-----------------+-----+-----------+
 *   |   0   | rep start|   0   | rep count| nested|   0   | var header (8 B)| fast| call code |
 *   +-------+----------+-------+----------+-------+-------+-----------------+-----+-----------+
 *
 * and its result:  bits 15..0 status, bits 43..32 repetitions completed, all others zero.
 * "GPA page" is a guest physical address divided by 4096. All sizes are in bytes, all integers little endian.
 *
 * Calls or fields marked [Bulkhead] are not in the TLFS; docs/hypercalls.md defines what they mean here.
 */
#ifndef BULKHEAD_ABI_HYPERCALL_H
#define BULKHEAD_ABI_HYPERCALL_H

#ifdef __KERNEL__
#include <linux/types.h>
#include <linux/build_bug.h>
#define HV_LAYOUT(type, size) static_assert(sizeof(type) == (size), "layout of " #type)
#elif defined(__cplusplus)
#include <cstddef>
#include <cstdint>
#define HV_LAYOUT(type, size) static_assert(sizeof(type) == (size), "layout of " #type)
typedef std::uint8_t __u8;
typedef std::uint16_t __u16;
typedef std::uint32_t __u32;
typedef unsigned long long __u64;
#else
#error "abi/hypercall.h is for C++ and for the Linux kernel"
#endif

enum hv_call_code {
	HV_CALL_CREATE_PARTITION = 0x40,
	HV_CALL_INITIALIZE_PARTITION = 0x41,
	HV_CALL_FINALIZE_PARTITION = 0x42,
	HV_CALL_DELETE_PARTITION = 0x43,
	HV_CALL_GET_PARTITION_PROPERTY = 0x44,
	HV_CALL_SET_PARTITION_PROPERTY = 0x45,
	HV_CALL_GET_NEXT_CHILD_PARTITION = 0x47,
	HV_CALL_DEPOSIT_MEMORY = 0x48,
	HV_CALL_WITHDRAW_MEMORY = 0x49,
	HV_CALL_GET_MEMORY_BALANCE = 0x4a,
	HV_CALL_MAP_GPA_PAGES = 0x4b,
	HV_CALL_UNMAP_GPA_PAGES = 0x4c,
	HV_CALL_INSTALL_INTERCEPT = 0x4d,
	HV_CALL_CREATE_VP = 0x4e,
	HV_CALL_DELETE_VP = 0x4f,
	HV_CALL_GET_VP_REGISTERS = 0x50,
	HV_CALL_SET_VP_REGISTERS = 0x51,
	HV_CALL_REGISTER_INTERCEPT_RESULT = 0x91,
	HV_CALL_ASSERT_VIRTUAL_INTERRUPT = 0x94,
	HV_CALL_SIGNAL_EVENT_DIRECT = 0xc0,
	HV_CALL_POST_MESSAGE_DIRECT = 0xc1,
	HV_CALL_DISPATCH_VP = 0xc2,
	HV_CALL_GET_GPA_PAGES_ACCESS_STATES = 0xc9,
	HV_CALL_MAP_VP_STATE_PAGE = 0xe1,
	HV_CALL_UNMAP_VP_STATE_PAGE = 0xe2,
	HV_CALL_GET_VP_STATE = 0xe3,
	HV_CALL_SET_VP_STATE = 0xe4,
	HV_CALL_GET_VP_CPUID_VALUES = 0xf4,
	HV_CALL_BULKHEAD_INFORMATION = 0x7f00, /* [Bulkhead] */
};

/* What children may call. */
enum hv_guest_call_code {
	HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE = 0x2,
	HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST = 0x3,
	HV_CALL_NOTIFY_LONG_SPIN_WAIT = 0x8,
	HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI = 0xb,
	HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX = 0x13,
	HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX = 0x14,
	HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX = 0x15,
	HV_CALL_POST_MESSAGE = 0x5c,
	HV_CALL_SIGNAL_EVENT = 0x5d,
};

enum hv_status {
	HV_STATUS_SUCCESS = 0x0,
	HV_STATUS_INVALID_HYPERCALL_CODE = 0x2,
	HV_STATUS_INVALID_HYPERCALL_INPUT = 0x3,
	HV_STATUS_INVALID_ALIGNMENT = 0x4,
	HV_STATUS_INVALID_PARAMETER = 0x5,
	HV_STATUS_ACCESS_DENIED = 0x6,
	HV_STATUS_INVALID_PARTITION_STATE = 0x7,
	HV_STATUS_OPERATION_DENIED = 0x8,
	HV_STATUS_UNKNOWN_PROPERTY = 0x9,
	HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE = 0xa,
	HV_STATUS_INSUFFICIENT_MEMORY = 0xb,
	HV_STATUS_INVALID_PARTITION_ID = 0xd,
	HV_STATUS_INVALID_VP_INDEX = 0xe,
	HV_STATUS_NOT_FOUND = 0x10,
	HV_STATUS_INVALID_CONNECTION_ID = 0x12,
	HV_STATUS_INSUFFICIENT_BUFFERS = 0x13,
	HV_STATUS_INVALID_VP_STATE = 0x15,
	HV_STATUS_INVALID_SYNIC_STATE = 0x18,
	HV_STATUS_OBJECT_IN_USE = 0x19,
	HV_STATUS_NO_DATA = 0x1b,
	HV_STATUS_NO_RESOURCES = 0x1d,
	HV_STATUS_FEATURE_UNAVAILABLE = 0x1e,
	HV_STATUS_INVALID_REGISTER_VALUE = 0x50,
	HV_STATUS_UNKNOWN_REGISTER_NAME = 0x87,
};

#define HV_PARTITION_ID_INVALID 0ull
#define HV_PARTITION_ID_SELF 0xffffffffffffffffull
#define HV_VP_INDEX_ANY 0xffffffffu
#define HV_VP_INDEX_SELF 0xfffffffeu

#define HV_HYPERCALL_FAST (1ull << 16)
#define HV_HYPERCALL_VARIABLE_HEADER_SHIFT 17 /* its length, in 8 bytes */
#define HV_HYPERCALL_REP_COUNT_SHIFT 32
#define HV_HYPERCALL_REP_START_SHIFT 48
#define HV_HYPERCALL_REP_MASK 0xfffull

#define HV_PAGE_SIZE 4096u
#define HV_LARGE_PAGE_SIZE 0x200000u

/* 0x40. The memory of the partition object itself comes from the caller's own pool. */
struct hv_create_partition {
	__u64 flags; /* HV_PARTITION_CREATION_* */
	__u64 proximity_domain; /* accepted and ignored */
	__u32 compatibility_version;
	__u32 padding;
	__u64 disabled_processor_features[2];
	__u64 disabled_xsave_features;
	__u64 isolation; /* must be 0 */
};
HV_LAYOUT(struct hv_create_partition, 56);
#define HV_PARTITION_CREATION_LAPIC_PRESENT (1ull << 13)
#define HV_PARTITION_CREATION_X2APIC_CAPABLE (1ull << 22)

/* 0x40 out; 0x41, 0x42, 0x43 in (fast). 0x47 in: parent and previous child (0: first), out: child (0: no more). */
struct hv_partition_id {
	__u64 partition_id;
};
HV_LAYOUT(struct hv_partition_id, 8);
struct hv_get_next_child_partition {
	__u64 parent_id;
	__u64 previous_child_id;
};
HV_LAYOUT(struct hv_get_next_child_partition, 16);

/* 0x44 (without value), 0x45. */
struct hv_partition_property {
	__u64 partition_id;
	__u32 code; /* HV_PARTITION_PROPERTY_* */
	__u32 padding;
	__u64 value;
};
HV_LAYOUT(struct hv_partition_property, 24);
#define HV_GET_PARTITION_PROPERTY_INPUT_SIZE 16u
enum hv_partition_property_code {
	HV_PARTITION_PROPERTY_PRIVILEGE_FLAGS = 0x10000,
	HV_PARTITION_PROPERTY_TIME_FREEZE = 0x30003,
	HV_PARTITION_PROPERTY_REFERENCE_TIME = 0x30005,
	HV_PARTITION_PROPERTY_PROCESSORS_PER_SOCKET = 0x50003,
	HV_PARTITION_PROPERTY_PHYSICAL_ADDRESS_WIDTH = 0x60006,
	HV_PARTITION_PROPERTY_PROCESSOR_CLOCK_FREQUENCY = 0x60009,
};

/*
 * 0x48 (rep): header, then a list of the caller's GPA pages. While deposited, a page is inaccessible to everybody but
 * the hypervisor. [Bulkhead]: a 2 MiB region of memory holds deposited pages or pages mapped to children, not both;
 * depositing a page out of a region in which something is mapped answers OPERATION_DENIED, and so does the reverse.
 */
struct hv_deposit_memory {
	__u64 partition_id;
};
HV_LAYOUT(struct hv_deposit_memory, 8);
/* 0x49 (rep): out: a list of GPA pages, zeroed. NO_RESOURCES when the pool is empty. */
struct hv_withdraw_memory {
	__u64 partition_id;
	__u64 proximity_domain;
};
HV_LAYOUT(struct hv_withdraw_memory, 16);
/* 0x4a in: as 0x49. */
struct hv_memory_balance {
	__u64 pages_available;
	__u64 pages_in_use;
};
HV_LAYOUT(struct hv_memory_balance, 16);

/* 0x4b (rep): header, then a list of source pages in the caller's GPA space, one per page or large page. */
struct hv_map_gpa_pages {
	__u64 target_partition_id;
	__u64 target_gpa_base; /* GPA page */
	__u32 map_flags; /* HV_MAP_GPA_* */
	__u32 padding;
};
HV_LAYOUT(struct hv_map_gpa_pages, 24);
#define HV_MAP_GPA_READABLE 0x1u
#define HV_MAP_GPA_WRITABLE 0x2u
#define HV_MAP_GPA_KERNEL_EXECUTABLE 0x4u
#define HV_MAP_GPA_USER_EXECUTABLE 0x8u
#define HV_MAP_GPA_LARGE_PAGE 0x80000000u

/* 0x4c (rep without a list): the rep count is the number of pages or large pages. */
struct hv_unmap_gpa_pages {
	__u64 target_partition_id;
	__u64 target_gpa_base; /* GPA page */
	__u32 unmap_flags; /* HV_UNMAP_GPA_* */
	__u32 padding;
};
HV_LAYOUT(struct hv_unmap_gpa_pages, 24);
#define HV_UNMAP_GPA_LARGE_PAGE 0x2u

/* 0x4d */
struct hv_install_intercept {
	__u64 partition_id;
	__u32 access_mask; /* HV_INTERCEPT_ACCESS_*, 0 removes */
	__u32 intercept_type; /* enum hv_intercept_type */
	__u64 intercept_parameter;
};
HV_LAYOUT(struct hv_install_intercept, 24);
#define HV_INTERCEPT_ACCESS_READ 1u
#define HV_INTERCEPT_ACCESS_WRITE 2u
#define HV_INTERCEPT_ACCESS_EXECUTE 4u
enum hv_intercept_type {
	HV_INTERCEPT_TYPE_IO_PORT = 0x0, /* parameter: port */
	HV_INTERCEPT_TYPE_MSR = 0x1, /* every MSR that the hypervisor does not handle itself */
	HV_INTERCEPT_TYPE_CPUID = 0x2, /* parameter: leaf */
	HV_INTERCEPT_TYPE_EXCEPTION = 0x3, /* parameter: vector */
	HV_INTERCEPT_TYPE_HYPERCALL = 0x8, /* calls that the hypervisor does not know */
	HV_INTERCEPT_TYPE_MSR_INDEX = 0xc, /* parameter: MSR */
	/* Posts and signals of the child to any connection: no port of the hypervisor's own is behind one. */
	HV_INTERCEPT_TYPE_UNKNOWN_SYNIC_CONNECTION = 0xd,
	HV_INTERCEPT_TYPE_APIC_EOI = 0xe, /* EOI of a level-triggered vector */
	HV_INTERCEPT_TYPE_IO_PORT_RANGE = 0x11, /* parameter: first port, last port << 16 */
};

/* 0x4e */
struct hv_create_vp {
	__u64 partition_id;
	__u32 vp_index;
	__u8 padding[3];
	__u8 subnode_type;
	__u64 subnode_id;
	__u64 proximity_domain;
	__u64 flags; /* must be 0 */
};
HV_LAYOUT(struct hv_create_vp, 40);
/* 0x4f */
struct hv_delete_vp {
	__u64 partition_id;
	__u32 vp_index;
	__u32 padding;
};
HV_LAYOUT(struct hv_delete_vp, 16);

/* 0x50 (rep): header, names u32[]; out: 16-byte values. 0x51 (rep): header, struct hv_register_assignment[]. */
struct hv_vp_registers {
	__u64 partition_id;
	__u32 vp_index;
	__u8 vtl; /* must be 0 */
	__u8 padding[3];
};
HV_LAYOUT(struct hv_vp_registers, 16);
struct hv_register_value {
	__u64 low;
	__u64 high;
};
HV_LAYOUT(struct hv_register_value, 16);
struct hv_register_assignment {
	__u32 name; /* abi/register.hpp */
	__u32 padding[3];
	struct hv_register_value value;
};
HV_LAYOUT(struct hv_register_assignment, 32);

/* 0x91, for intercept type CPUID. Bits whose mask is set replace the hypervisor's own answer. */
struct hv_register_cpuid_result {
	__u64 partition_id;
	__u32 vp_index; /* or HV_VP_INDEX_ANY */
	__u32 intercept_type; /* HV_INTERCEPT_TYPE_CPUID */
	__u32 leaf;
	__u32 subleaf;
	__u8 subleaf_specific; /* 0: for every sub-leaf */
	__u8 always_override;
	__u16 padding;
	__u32 eax, eax_mask;
	__u32 ebx, ebx_mask;
	__u32 ecx, ecx_mask;
	__u32 edx, edx_mask;
	__u32 padding2;
};
HV_LAYOUT(struct hv_register_cpuid_result, 64);

/* 0x94. [Bulkhead] out (memory form; output address 0: none): struct hv_wake_set. */
struct hv_assert_virtual_interrupt {
	__u64 partition_id;
	__u32 interrupt_type; /* enum hv_interrupt_type */
	__u32 flags; /* HV_INTERRUPT_* */
	__u64 destination; /* APIC id, or logical destination */
	__u32 vector;
	__u8 vtl; /* must be 0 */
	__u8 padding[3];
};
HV_LAYOUT(struct hv_assert_virtual_interrupt, 32);
enum hv_interrupt_type {
	HV_INTERRUPT_TYPE_FIXED = 0,
	HV_INTERRUPT_TYPE_LOWEST_PRIORITY = 1,
	HV_INTERRUPT_TYPE_NMI = 4,
	HV_INTERRUPT_TYPE_INIT = 5,
	HV_INTERRUPT_TYPE_SIPI = 6,
	HV_INTERRUPT_TYPE_EXTINT = 7,
};
#define HV_INTERRUPT_LEVEL_TRIGGERED 1u
#define HV_INTERRUPT_LOGICAL_DESTINATION 2u
/* The VPs of the target partition that were blocked and are not any more; bit n is VP n. Dispatch each of them. */
struct hv_wake_set {
	__u64 vps;
};
HV_LAYOUT(struct hv_wake_set, 8);

/*
 * 0xc1: the parent's message goes straight into the slot. [Bulkhead] out (memory form; output address 0: none): struct
 * hv_wake_set. INSUFFICIENT_BUFFERS: the slot is full; INVALID_SYNIC_STATE: the SynIC is off; after both, a
 * SynicSintDeliverable message of that VP tells when to try again.
 */
struct hv_post_message_direct {
	__u64 partition_id;
	__u32 vp_index;
	__u8 vtl; /* must be 0 */
	__u8 padding[3];
	__u32 sint;
	__u8 message[256]; /* abi/synic.hpp */
	__u32 padding2;
};
HV_LAYOUT(struct hv_post_message_direct, 280);

/* 0xc0. INVALID_SYNIC_STATE: the SynIC is off. */
struct hv_signal_event_direct {
	__u64 partition_id;
	__u32 vp_index;
	__u8 vtl; /* must be 0 */
	__u8 sint;
	__u16 flag;
};
HV_LAYOUT(struct hv_signal_event_direct, 16);
struct hv_signal_event_direct_output {
	__u8 newly_signaled;
	__u8 padding[7];
	__u64 wake_set; /* [Bulkhead] */
};
HV_LAYOUT(struct hv_signal_event_direct_output, 16);

/*
 * 0xc2. Runs a VP on the caller's logical processor until something ends the dispatch. Fields from `timer_armed` and
 * `wake_set` on are [Bulkhead]. Call it with interrupts disabled, so that a physical interrupt that arrives while the
 * child runs is taken by the caller when it enables them.
 *
 * Moments are values of the root's time stamp counter. The caller must dispatch again at the latest at
 * `timer_deadline` (0: no timer runs). A VP that sets its timer earlier than `timer_armed` ends its dispatch.
 */
struct hv_dispatch_vp {
	__u64 partition_id;
	__u32 vp_index;
	__u32 flags; /* HV_DISPATCH_* */
	__u64 time_slice; /* 100 ns; 0: no limit but the root's own interrupts. Advisory. */
	__u64 spec_ctrl; /* must be 0 */
	__u64 timer_armed; /* for when the caller has armed a timer of its own; 0: none */
};
HV_LAYOUT(struct hv_dispatch_vp, 40);
#define HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND 1u
struct hv_dispatch_vp_output {
	__u32 state; /* enum hv_dispatch_state */
	__u32 event; /* enum hv_dispatch_event */
	__u64 wake_set; /* VPs of the same partition that this dispatch woke */
	__u64 timer_deadline;
};
HV_LAYOUT(struct hv_dispatch_vp_output, 24);
enum hv_dispatch_state {
	HV_DISPATCH_STATE_BLOCKED = 1, /* halted or waiting for SIPI: dispatch again after a wake-up or the deadline */
	HV_DISPATCH_STATE_READY = 2,
};
enum hv_dispatch_event {
	HV_DISPATCH_EVENT_NONE = 0, /* a physical interrupt, an earlier timer, or a wake set to be served */
	HV_DISPATCH_EVENT_SUSPEND = 1, /* ExplicitSuspend is set: this VP does not run */
	HV_DISPATCH_EVENT_INTERCEPT = 2, /* InterceptSuspend is set, the intercept message page holds the message */
	HV_DISPATCH_EVENT_SPIN = 3, /* [Bulkhead] it spins for a lock: let a sibling that is ready run instead */
};

/*
 * 0xe1, 0xe2 (without pfn). The location is given by the caller: a page of its own, which it must not deposit or map
 * elsewhere until it is unmapped here.
 */
struct hv_vp_state_page {
	__u64 partition_id;
	__u32 vp_index;
	__u16 type; /* enum hv_vp_state_page_type */
	__u8 vtl; /* must be 0 */
	__u8 flags; /* must be HV_VP_STATE_PAGE_LOCATION_GIVEN in 0xe1 */
	__u64 pfn;
};
HV_LAYOUT(struct hv_vp_state_page, 24);
#define HV_UNMAP_VP_STATE_PAGE_INPUT_SIZE 16u
#define HV_VP_STATE_PAGE_LOCATION_GIVEN 1u
enum hv_vp_state_page_type {
	HV_VP_STATE_PAGE_REGISTERS = 0, /* abi/register_page.hpp */
	HV_VP_STATE_PAGE_INTERCEPT_MESSAGE = 1, /* abi/intercept_message.hpp */
};

/*
 * 0xc9 (rep): out: one byte for each page, HV_GPA_PAGE_*, as it was before the call. Codes and layout are known from
 * public headers; docs/hypercalls.md defines what they mean here.
 */
struct hv_get_gpa_pages_access_states {
	__u64 partition_id;
	__u64 flags; /* HV_GPA_ACCESS_* */
	__u64 gpa_base; /* GPA page */
};
HV_LAYOUT(struct hv_get_gpa_pages_access_states, 24);
#define HV_GPA_ACCESS_CLEAR_ACCESSED 1ull
#define HV_GPA_ACCESS_SET_ACCESSED 2ull
#define HV_GPA_ACCESS_CLEAR_DIRTY 4ull
#define HV_GPA_ACCESS_SET_DIRTY 8ull
#define HV_GPA_PAGE_ACCESSED 1u
#define HV_GPA_PAGE_DIRTY 2u

/*
 * 0xe3, 0xe4. As 0xc9, known from public headers. Behind the header, in its variable part: the page of the caller's
 * that holds the state, or for types that are not in a page, in 0xe4, the state itself.
 */
struct hv_vp_state {
	__u64 partition_id;
	__u32 vp_index;
	__u8 vtl; /* must be 0 */
	__u8 reserved[3];
	__u32 type; /* enum hv_vp_state_type */
	__u32 reserved2;
	__u64 xsave_flags; /* must be 0 */
	__u64 xsave_states; /* must be 0: all that there are */
};
HV_LAYOUT(struct hv_vp_state, 40);
#define HV_VP_STATE_IN_PAGE 0x80000000u
enum hv_vp_state_type {
	HV_VP_STATE_LOCAL_APIC = 0x80000000, /* struct hv_local_interrupt_controller_state */
	HV_VP_STATE_XSAVE = 0x80000001, /* the XSAVE area in its standard form, HV_PAGE_SIZE bytes */
	HV_VP_STATE_SYNTHETIC_TIMERS = 4, /* struct hv_synthetic_timers_state */
};

/* Registers as they read in the mode that the APIC is in. The task priority is a register of its own. */
struct hv_local_interrupt_controller_state {
	__u32 apic_id;
	__u32 apic_version;
	__u32 apic_ldr;
	__u32 apic_dfr;
	__u32 apic_spurious;
	__u32 apic_isr[8];
	__u32 apic_tmr[8];
	__u32 apic_irr[8];
	__u32 apic_esr;
	__u32 apic_icr_high;
	__u32 apic_icr_low;
	__u32 apic_lvt[6]; /* timer, thermal, performance, LINT0, LINT1, error */
	__u32 apic_lvt_cmci; /* 0 */
	__u32 apic_error_status; /* what the next write of ESR makes visible */
	__u32 apic_initial_count;
	__u32 apic_counter_value; /* rounded up: 0 only if the timer does not count */
	__u32 apic_divide_configuration;
	__u32 apic_remote_read; /* 0 */
	/* [Bulkhead] What has come to the APIC, or from it, and has not got there yet. */
	__u32 waiting; /* HV_APIC_WAITING_* */
	__u8 external_vector; /* the PIC's */
	__u8 ended_vector; /* level-triggered */
	__u16 reserved;
};
HV_LAYOUT(struct hv_local_interrupt_controller_state, 184);
#define HV_APIC_WAITING_NMI 1u
#define HV_APIC_WAITING_EXTERNAL 2u /* an interrupt of the PIC */
#define HV_APIC_WAITING_ENDED 4u /* the parent is to be told that an interrupt has ended */
#define HV_APIC_WAITING_ASSIST 8u /* the guest may end the interrupt in service in its VP assist page */

struct hv_synthetic_timer_state {
	__u32 flags; /* HV_SYNTHETIC_TIMER_* */
	__u32 reserved;
	__u64 config; /* as the register */
	__u64 count; /* as the register */
	__u64 adjustment; /* [Bulkhead] the reference time at which it expires next; 0: never */
	__u64 undelivered_expiration_time;
};
HV_LAYOUT(struct hv_synthetic_timer_state, 40);
#define HV_SYNTHETIC_TIMER_UNDELIVERED 1u /* it has expired, and its message found the slot full */
struct hv_synthetic_timers_state {
	struct hv_synthetic_timer_state timers[4];
	__u64 reserved[5];
};
HV_LAYOUT(struct hv_synthetic_timers_state, 200);

/* 0xf4 (rep): header, struct hv_cpuid_leaf[]; out: struct hv_cpuid_values[], what the VP's CPUID answers. */
struct hv_get_vp_cpuid_values {
	__u64 partition_id;
	__u32 vp_index;
	__u32 flags; /* must be HV_CPUID_USE_VP_XFEM | HV_CPUID_APPLY_REGISTERED */
	__u32 reserved;
	__u32 padding;
};
HV_LAYOUT(struct hv_get_vp_cpuid_values, 24);
#define HV_CPUID_USE_VP_XFEM 1u
#define HV_CPUID_APPLY_REGISTERED 2u
struct hv_cpuid_leaf {
	__u32 leaf;
	__u32 subleaf;
	__u64 xfem; /* must be 0: the VP's */
	__u64 xss; /* must be 0 */
};
HV_LAYOUT(struct hv_cpuid_leaf, 24);
struct hv_cpuid_values {
	__u32 eax, ebx, ecx, edx;
};
HV_LAYOUT(struct hv_cpuid_values, 16);

/* 0x7f00 out. [Bulkhead] */
struct hv_bulkhead_information {
	__u32 abi_level; /* HV_BULKHEAD_ABI_LEVEL */
	__u32 logical_processors;
	__u32 maximum_vps; /* per partition */
	__u32 partitions; /* children that exist now */
	__u64 image_bytes; /* the hypervisor's image in memory, its zeroed data included */
	__u64 memory_bytes; /* all memory that is withheld from the root, deposits not counted */
	__u64 root_pool_pages_available; /* pages the root deposited for itself and that are free now */
	__u64 root_pool_pages_in_use;
	__u64 deposited_pages; /* all pages in pools of children now */
	__u64 tsc_frequency; /* Hz */
	__u64 exits; /* of the children's VPs that exist now, since they were made */
	__u64 interrupts; /* that they have taken */
};
HV_LAYOUT(struct hv_bulkhead_information, 80);
#define HV_BULKHEAD_ABI_LEVEL 4u

#endif
