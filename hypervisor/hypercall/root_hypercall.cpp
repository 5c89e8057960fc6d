// SPDX-License-Identifier: Apache-2.0
//
// From registers to a handler and back: TLFS, "Hypercall Interface". Checks in this order: code, control word, alignment and
// place of input and output, then the handler's own. (Privilege comes before all: children do not get here.)
#include "hypervisor/hypercall/root_hypercall.hpp"

#include <algorithm>
#include <array>

#include "hypervisor/hypercall/root_call.hpp"
#include "hypervisor/memory/root_memory.hpp"

namespace bulkhead::hypervisor {
namespace {

struct Entry {
  CallShape shape;
  RootHandler handler;
  bool output_optional = false;
};

// code, rep, input, element of input, output, element of output
constexpr Entry kCalls[] = {
    {{HV_CALL_DISPATCH_VP, false, sizeof(hv_dispatch_vp), 0, sizeof(hv_dispatch_vp_output), 0}, root::dispatch_vp},
    {{HV_CALL_ASSERT_VIRTUAL_INTERRUPT, false, sizeof(hv_assert_virtual_interrupt), 0, sizeof(hv_wake_set), 0},
     root::assert_virtual_interrupt,
     true},
    {{HV_CALL_SIGNAL_EVENT_DIRECT, false, sizeof(hv_signal_event_direct), 0, sizeof(hv_signal_event_direct_output), 0},
     root::signal_event_direct,
     true},
    {{HV_CALL_POST_MESSAGE_DIRECT, false, sizeof(hv_post_message_direct), 0, sizeof(hv_wake_set), 0},
     root::post_message_direct,
     true},
    {{HV_CALL_CREATE_PARTITION, false, sizeof(hv_create_partition), 0, sizeof(hv_partition_id), 0},
     root::create_partition},
    {{HV_CALL_INITIALIZE_PARTITION, false, sizeof(hv_partition_id), 0, 0, 0}, root::initialize_partition},
    {{HV_CALL_FINALIZE_PARTITION, false, sizeof(hv_partition_id), 0, 0, 0}, root::finalize_partition},
    {{HV_CALL_DELETE_PARTITION, false, sizeof(hv_partition_id), 0, 0, 0}, root::delete_partition},
    {{HV_CALL_GET_PARTITION_PROPERTY, false, HV_GET_PARTITION_PROPERTY_INPUT_SIZE, 0, 8, 0},
     root::get_partition_property},
    {{HV_CALL_SET_PARTITION_PROPERTY, false, sizeof(hv_partition_property), 0, 0, 0}, root::set_partition_property},
    {{HV_CALL_GET_NEXT_CHILD_PARTITION, false, sizeof(hv_get_next_child_partition), 0, sizeof(hv_partition_id), 0},
     root::get_next_child_partition},
    {{HV_CALL_DEPOSIT_MEMORY, true, sizeof(hv_deposit_memory), 8, 0, 0}, root::deposit_memory},
    {{HV_CALL_WITHDRAW_MEMORY, true, sizeof(hv_withdraw_memory), 0, 0, 8}, root::withdraw_memory},
    {{HV_CALL_GET_MEMORY_BALANCE, false, sizeof(hv_withdraw_memory), 0, sizeof(hv_memory_balance), 0},
     root::get_memory_balance},
    {{HV_CALL_MAP_GPA_PAGES, true, sizeof(hv_map_gpa_pages), 8, 0, 0}, root::map_gpa_pages},
    {{HV_CALL_UNMAP_GPA_PAGES, true, sizeof(hv_unmap_gpa_pages), 0, 0, 0}, root::unmap_gpa_pages},
    {{HV_CALL_INSTALL_INTERCEPT, false, sizeof(hv_install_intercept), 0, 0, 0}, root::install_intercept},
    {{HV_CALL_CREATE_VP, false, sizeof(hv_create_vp), 0, 0, 0}, root::create_vp},
    {{HV_CALL_DELETE_VP, false, sizeof(hv_delete_vp), 0, 0, 0}, root::delete_vp},
    {{HV_CALL_GET_VP_REGISTERS, true, sizeof(hv_vp_registers), 4, 0, sizeof(hv_register_value)},
     root::get_vp_registers},
    {{HV_CALL_SET_VP_REGISTERS, true, sizeof(hv_vp_registers), sizeof(hv_register_assignment), 0, 0},
     root::set_vp_registers},
    {{HV_CALL_REGISTER_INTERCEPT_RESULT, false, sizeof(hv_register_cpuid_result), 0, 0, 0},
     root::register_intercept_result},
    {{HV_CALL_MAP_VP_STATE_PAGE, false, sizeof(hv_vp_state_page), 0, 0, 0}, root::map_vp_state_page},
    {{HV_CALL_UNMAP_VP_STATE_PAGE, false, HV_UNMAP_VP_STATE_PAGE_INPUT_SIZE, 0, 0, 0}, root::unmap_vp_state_page},
    {{HV_CALL_GET_GPA_PAGES_ACCESS_STATES, true, sizeof(hv_get_gpa_pages_access_states), 0, 0, 1},
     root::get_gpa_pages_access_states},
    {{HV_CALL_GET_VP_STATE, false, sizeof(hv_vp_state), 0, sizeof(hv_synthetic_timers_state), 0, sizeof(std::uint64_t)},
     root::get_vp_state,
     true},
    {{HV_CALL_SET_VP_STATE, false, sizeof(hv_vp_state), 0, 0, 0, sizeof(hv_synthetic_timers_state)},
     root::set_vp_state},
    {{HV_CALL_GET_VP_CPUID_VALUES, true, sizeof(hv_get_vp_cpuid_values), sizeof(hv_cpuid_leaf), 0,
      sizeof(hv_cpuid_values)},
     root::get_vp_cpuid_values},
    {{HV_CALL_BULKHEAD_INFORMATION, false, 0, 0, sizeof(hv_bulkhead_information), 0}, root::information},
};

/// For codes below 256: 1 + the index in kCalls, or 0.
constexpr std::array<std::uint8_t, 256> kIndex = [] {
  std::array<std::uint8_t, 256> index{};
  for (std::size_t i = 0; i < std::size(kCalls); ++i) {
    if (kCalls[i].shape.code < 256) index[kCalls[i].shape.code] = static_cast<std::uint8_t>(i + 1);
  }
  return index;
}();

const Entry* find(std::uint16_t code) {
  if (code == HV_CALL_BULKHEAD_INFORMATION) return &kCalls[std::size(kCalls) - 1];
  if (code >= kIndex.size() || kIndex[code] == 0) return nullptr;
  return &kCalls[kIndex[code] - 1];
}

constexpr std::uint64_t result_word(hv_status status, std::uint32_t reps) {
  return status | std::uint64_t{reps} << HV_HYPERCALL_REP_COUNT_SHIFT;
}

/// One entry into the hypervisor: as much of the call as one entry does.
class Execution {
 public:
  Execution(root::HypercallRegisters& registers, const Entry& entry)
      : registers_(registers), entry_(entry), control_(registers.rcx) {}

  hv_status prepare() {
    const CallShape& shape = entry_.shape;
    if (const hv_status status = check(control_, shape); status != HV_STATUS_SUCCESS) return status;
    if (shape.rep) {
      call_.first = control_.rep_start();
      const std::uint32_t element = std::max<std::uint32_t>({shape.input_element, shape.output_element, 8});
      call_.count = std::min(
          {control_.rep_count() - call_.first, kRepsPerEntry, static_cast<std::uint32_t>(kRepBytesPerEntry / element)});
      call_.last = call_.first + call_.count == control_.rep_count();
    }
    call_.variable = std::span(input_).subspan(shape.input, 8 * control_.variable_header());
    call_.header = std::span(input_).first(shape.input);
    call_.elements = std::span(input_).subspan(shape.input, shape.input_element * call_.count);
    call_.output = std::span(output_).first(shape.output + shape.output_element * call_.count);
    output_wanted_ = !call_.output.empty() && !control_.fast() && (registers_.r8 != 0 || !entry_.output_optional);
    return control_.fast() ? copy_from_registers() : copy_from_memory();
  }

  RootCallResult run() const { return entry_.handler(call_); }

  /// False if the root has taken the place for the output away meanwhile.
  bool copy_out(std::uint32_t repetitions) {
    if (!output_wanted_) return true;
    const std::size_t bytes = entry_.shape.rep ? entry_.shape.output_element * repetitions : call_.output.size();
    auto memory = root_memory().lock();
    std::byte* to = memory->accessible(output_address(), call_.output.size());
    if (to) std::memcpy(to, output_.data(), bytes);
    return to != nullptr;
  }

  const RootCall& call() const { return call_; }
  const ControlWord& control() const { return control_; }

 private:
  std::uint64_t output_address() const {
    return registers_.r8 + std::uint64_t{entry_.shape.output_element} * call_.first;
  }

  hv_status copy_from_registers() {
    std::array<std::byte, 16> given;
    std::memcpy(given.data(), &registers_.rdx, 8);
    std::memcpy(given.data() + 8, &registers_.r8, 8);
    std::memcpy(input_.data(), given.data(), entry_.shape.input);
    std::memcpy(input_.data() + entry_.shape.input,
                given.data() + entry_.shape.input + entry_.shape.input_element * call_.first, call_.elements.size());
    return HV_STATUS_SUCCESS;
  }

  hv_status copy_from_memory() {
    const CallShape& shape = entry_.shape;
    const std::size_t all_input =
        shape.input + call_.variable.size() + std::size_t{shape.input_element} * control_.rep_count();
    const std::size_t all_output = shape.output + std::size_t{shape.output_element} * control_.rep_count();
    auto memory = root_memory().lock();
    if (output_wanted_ && (registers_.r8 % 8 || !memory->accessible(registers_.r8, all_output))) {
      return HV_STATUS_INVALID_ALIGNMENT;
    }
    if (all_input == 0) return HV_STATUS_SUCCESS;
    const std::byte* from = registers_.rdx % 8 ? nullptr : memory->accessible(registers_.rdx, all_input);
    if (!from) return HV_STATUS_INVALID_ALIGNMENT;
    std::memcpy(input_.data(), from, shape.input + call_.variable.size());
    if (call_.count) {
      std::memcpy(input_.data() + shape.input, from + shape.input + shape.input_element * call_.first,
                  call_.elements.size());
    }
    return HV_STATUS_SUCCESS;
  }

  root::HypercallRegisters& registers_;
  const Entry& entry_;
  ControlWord control_;
  RootCall call_;
  bool output_wanted_ = false;
  std::array<std::byte, 64 + kRepBytesPerEntry> input_;
  std::array<std::byte, kRepBytesPerEntry> output_;
};

/// HvDispatchVp is most of all calls. The checks are those of Execution, for the one shape that this call has; but whether there
/// is a place for the output is seen only when there is output.
hv_status dispatch_quickly(const root::HypercallRegisters& registers) {
  hv_dispatch_vp input;
  hv_dispatch_vp_output output;
  if (registers.rdx % 8 || registers.r8 % 8) return HV_STATUS_INVALID_ALIGNMENT;
  {
    auto memory = root_memory().lock();
    const std::byte* from = memory->accessible(registers.rdx, sizeof input);
    if (!from) return HV_STATUS_INVALID_ALIGNMENT;
    std::memcpy(&input, from, sizeof input);
  }
  const hv_status status = root::dispatch(input, output);
  if (status != HV_STATUS_SUCCESS) return status;
  auto memory = root_memory().lock();
  std::byte* to = memory->accessible(registers.r8, sizeof output);
  if (!to) return HV_STATUS_INVALID_ALIGNMENT;
  std::memcpy(to, &output, sizeof output);
  return HV_STATUS_SUCCESS;
}

}  // namespace

const CallShape* find_root_call(std::uint16_t code) {
  const Entry* entry = find(code);
  return entry ? &entry->shape : nullptr;
}

void root::hypercall(HypercallRegisters& registers) {
  registers.again = false;
  if (registers.rcx == HV_CALL_DISPATCH_VP) [[likely]] {
    registers.rax = dispatch_quickly(registers);
    return;
  }
  const Entry* entry = find(static_cast<std::uint16_t>(registers.rcx));
  if (!entry) {
    registers.rax = HV_STATUS_INVALID_HYPERCALL_CODE;
    return;
  }
  Execution execution(registers, *entry);
  if (const hv_status status = execution.prepare(); status != HV_STATUS_SUCCESS) {
    registers.rax = status;
    return;
  }
  const RootCallResult result = execution.run();
  if (result.again) {
    registers.again = true;
    return;
  }
  const std::uint32_t completed = execution.call().first + result.done;
  // What was done is reported even if its output has no place any more, or repetitions would be done twice.
  const bool has_output = result.status == HV_STATUS_SUCCESS || result.done;
  const bool stored = !has_output || execution.copy_out(result.done);
  const hv_status status = stored ? result.status : HV_STATUS_INVALID_ALIGNMENT;
  if (status == HV_STATUS_SUCCESS && completed < execution.control().rep_count()) {
    registers.rcx = execution.control().with_rep_start(completed);
    registers.again = true;
    return;
  }
  registers.rax = result_word(status, completed);
}

}  // namespace bulkhead::hypervisor
