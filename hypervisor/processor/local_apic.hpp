// SPDX-License-Identifier: Apache-2.0
//
// This logical processor's own local APIC, which is the root's. The hypervisor sends through it and leaves no trace.
// AMD64 APM volume 2, chapter 16.
#pragma once

#include <cstdint>

#include "hypervisor/apic/local_apic.hpp"

namespace bulkhead::hypervisor::local_apic {

using Register = LocalApic::Register;

bool is_x2apic();
std::uint32_t id();
std::uint32_t read(Register name);
void write(Register name, std::uint32_t value);

/// ICR: `destination` is an APIC id or a logical destination, as `low` says.
void send(std::uint32_t destination, std::uint32_t low);
void send_nmi(std::uint32_t apic_id);

/// What an INIT does to it: software-disabled, everything masked, nothing in service.
void reset();

}  // namespace bulkhead::hypervisor::local_apic
