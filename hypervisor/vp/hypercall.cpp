// SPDX-License-Identifier: Apache-2.0
//
// A child's hypercalls: TLFS, "Hypercall Interface". A child has none of the calls for parents, and so far none of the others
// are implemented either; both are answered truly.
#include "hypervisor/decode/guest_walk.hpp"
#include "hypervisor/hypercall/control_word.hpp"
#include "hypervisor/vp/finish_instruction.hpp"

namespace bulkhead::hypervisor {

VirtualProcessor::Next VirtualProcessor::handle_hypercall(const Exit& exit) {
  const ExecutionMode mode = hardware_.mode();
  if (mode.cpl != 0 || !(mode.cr0 & kCr0ProtectedMode)) return undefined_instruction();
  std::uint64_t* general = hardware_.general;
  const bool wide = mode.is_64_bit();
  const ControlWord control(wide ? general[1] : general[2] << 32 | static_cast<std::uint32_t>(general[0]));
  const bool known = find_root_call(control.code()) != nullptr;
  if (!known && partition_.configuration().intercepts.wants_hypercalls()) return intercept_hypercall(exit);
  if (!finish_instruction(exit, Operation::Hypercall)) return Next::Prepare;
  general[0] = known ? HV_STATUS_ACCESS_DENIED : HV_STATUS_INVALID_HYPERCALL_CODE;
  if (!wide) general[2] = 0;
  return Next::Enter;
}

}  // namespace bulkhead::hypervisor
