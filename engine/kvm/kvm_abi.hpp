// SPDX-License-Identifier: Apache-2.0
//
// KVM's interface, <linux/kvm.h>, as C++ must see it. That header declares arrays at the end of a structure through a
// macro that puts an empty structure before them; in C that takes no room, in C++ it takes a byte. So the structures
// would have another size, and with it the numbers of the calls that take them.
#pragma once

#pragma GCC system_header

#include <linux/stddef.h>

#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[]
#include <linux/kvm.h>

static_assert(sizeof(kvm_cpuid2) == 8);
static_assert(sizeof(kvm_msrs) == 8);
static_assert(sizeof(kvm_irq_routing) == 8);
static_assert(sizeof(kvm_signal_mask) == 4);
