// SPDX-License-Identifier: Apache-2.0
//
// Two NMIs that come while the processor holds them back become one. When the hypervisor's own is that one, the other may
// have been the machine's, for the root; whether it was, its source tells:
//
//   performance counters   one that interrupts has run over
//   system error, I/O check  port 61h
//
// A source without a state (a button, a debugger's or a monitor's NMI) can be lost, if it comes in the microsecond or so
// between a signal and the exit that it causes. To send the root an NMI each time for its sake would be worse: Linux
// reports each one that nobody has caused. It takes one too many of a counter as late, and says nothing.
#pragma once

namespace bulkhead::hypervisor::nmi_source {

/// Whether an NMI for the root may have been lost on this processor: a source wants one. It may be on its way still.
bool is_active();

}  // namespace bulkhead::hypervisor::nmi_source
