// SPDX-License-Identifier: Apache-2.0
//
// The root's hypercalls: control words, places of input and output, and what each call answers to a wrong caller.
#include <gtest/gtest.h>

#include "tests/hypervisor/fake_machine.hpp"

namespace bulkhead::hypervisor {
namespace {

using fake::kDepositPage;
using fake::kGuestPage;
using fake::kStatePage;
using fake::Root;

class HypercallTest : public testing::Test {
 protected:
  /// An active partition with some memory.
  std::uint64_t active_partition() {
    const std::uint64_t id = root_.create_partition();
    EXPECT_EQ(root_.deposit(id, next_deposit_, 64).status, HV_STATUS_SUCCESS);
    next_deposit_ += 64;
    EXPECT_EQ(root_.call(HV_CALL_INITIALIZE_PARTITION, hv_partition_id{id}).status, HV_STATUS_SUCCESS);
    return id;
  }
  std::uint16_t create_vp(std::uint64_t id, std::uint32_t index) { return root_.create_vp(id, index).status; }

  fake::Machine machine_;
  Root root_{machine_};
  std::uint64_t next_deposit_ = kDepositPage;
};

TEST_F(HypercallTest, UnknownCodes) {
  for (const std::uint64_t code : {0x0, 0x3f, 0x46, 0x5c, 0x5d, 0x99, 0xff, 0x100, 0x140, 0x7f01, 0x8001, 0xffff}) {
    EXPECT_EQ(root_.raw(code, 0, 0).status, HV_STATUS_INVALID_HYPERCALL_CODE) << std::hex << code;
  }
}

TEST_F(HypercallTest, ControlWordsThatAreWrong) {
  const std::uint64_t in = Root::kInputPage, out = Root::kOutputPage;
  constexpr std::uint64_t kReps = 1ull << 32, kStart = 1ull << 48;
  for (const std::uint64_t control : {
           0x40ull | 1ull << 27, 0x40ull | 1ull << 30, 0x40ull | 1ull << 44, 0x40ull | 1ull << 63,  // reserved
           0x40ull | 1ull << 31,                                                                    // nested
           0x40ull | 1ull << 17,                                                                    // variable header
           0x40ull | kReps, 0x40ull | kStart,                    // repetitions of a simple call
           0x48ull, 0x48ull | kStart, 0x48ull | kReps | kStart,  // none of a rep call, or starting behind the end
           0x40ull | HV_HYPERCALL_FAST,                          // too much input, and output
           0x4aull | HV_HYPERCALL_FAST,                          // output
           0x48ull | HV_HYPERCALL_FAST | 2 * kReps,              // a list that does not fit
       }) {
    EXPECT_EQ(root_.raw(control, in, out).status, HV_STATUS_INVALID_HYPERCALL_INPUT) << std::hex << control;
  }
}

TEST_F(HypercallTest, PlacesThatAreWrong) {
  const std::uint64_t in = Root::kInputPage, out = Root::kOutputPage;
  constexpr std::uint64_t kCreate = HV_CALL_CREATE_PARTITION;
  EXPECT_EQ(root_.raw(kCreate, in + 4, out).status, HV_STATUS_INVALID_ALIGNMENT);
  EXPECT_EQ(root_.raw(kCreate, in, out + 1).status, HV_STATUS_INVALID_ALIGNMENT);
  EXPECT_EQ(root_.raw(kCreate, in + 0x1000 - 48, out).status, HV_STATUS_INVALID_ALIGNMENT) << "across a page";
  EXPECT_EQ(root_.raw(kCreate, 0x1000, out).status, HV_STATUS_INVALID_ALIGNMENT) << "the hypervisor's memory";
  EXPECT_EQ(root_.raw(kCreate, in, 0x1000).status, HV_STATUS_INVALID_ALIGNMENT);
  EXPECT_EQ(root_.raw(kCreate, ~0ull << 3, out).status, HV_STATUS_INVALID_ALIGNMENT);
  EXPECT_EQ(root_.raw(kCreate, in, 1ull << 60).status, HV_STATUS_INVALID_ALIGNMENT);
  // A list longer than its page.
  EXPECT_EQ(root_.raw(HV_CALL_DEPOSIT_MEMORY | 512ull << 32, in, 0).status, HV_STATUS_INVALID_ALIGNMENT);
}

TEST_F(HypercallTest, InputAndOutputInADepositedPageAreRefused) {
  const std::uint64_t id = active_partition();
  const std::uint64_t hidden = kDepositPage * kPageSize;
  EXPECT_EQ(root_.raw(HV_CALL_CREATE_PARTITION, hidden, Root::kOutputPage).status, HV_STATUS_INVALID_ALIGNMENT);
  EXPECT_EQ(root_.raw(HV_CALL_CREATE_PARTITION, Root::kInputPage, hidden).status, HV_STATUS_INVALID_ALIGNMENT);
  EXPECT_EQ(root_.balance(id).pages_in_use, 2u);
}

TEST_F(HypercallTest, FastCallsTakeTheirInputFromRegisters) {
  const std::uint64_t id = root_.create_partition();
  EXPECT_EQ(root_.raw(HV_CALL_INITIALIZE_PARTITION | HV_HYPERCALL_FAST, id, 0).status, HV_STATUS_INSUFFICIENT_MEMORY);
  EXPECT_EQ(root_.raw(HV_CALL_INITIALIZE_PARTITION | HV_HYPERCALL_FAST, id + 1, 0).status,
            HV_STATUS_INVALID_PARTITION_ID);
  EXPECT_EQ(root_.raw(HV_CALL_DEPOSIT_MEMORY | HV_HYPERCALL_FAST | 1ull << 32, id, kDepositPage).status,
            HV_STATUS_SUCCESS);
}

TEST_F(HypercallTest, LongListsAreDoneInPieces) {
  const std::uint64_t id = root_.create_partition();
  const Root::Result result = root_.deposit(id, kDepositPage, 400);
  EXPECT_EQ(result.status, HV_STATUS_SUCCESS);
  EXPECT_EQ(result.reps, 400u);
  EXPECT_GE(result.entries, 400u / 64);
}

TEST_F(HypercallTest, AnErrorInAListTellsHowFarItGot) {
  const std::uint64_t id = root_.create_partition();
  std::vector<std::uint64_t> pages;
  for (unsigned i = 0; i < 100; ++i) pages.push_back(kDepositPage + i);
  pages[90] = 1;
  const Root::Result result = root_.call_list(HV_CALL_DEPOSIT_MEMORY, hv_deposit_memory{id}, pages);
  EXPECT_EQ(result.status, HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(result.reps, 90u);
}

TEST_F(HypercallTest, CallsForPartitionsThatAreNot) {
  for (const std::uint64_t id : {0ull, ~0ull, 0x100ull, 0xff00ull, 0x7full}) {
    EXPECT_EQ(root_.call(HV_CALL_FINALIZE_PARTITION, hv_partition_id{id}).status, HV_STATUS_INVALID_PARTITION_ID);
    EXPECT_EQ(root_.call(HV_CALL_DELETE_PARTITION, hv_partition_id{id}).status, HV_STATUS_INVALID_PARTITION_ID);
    EXPECT_EQ(create_vp(id, 0), HV_STATUS_INVALID_PARTITION_ID);
    EXPECT_EQ(root_.map(id, 0, kGuestPage, 1).status, HV_STATUS_INVALID_PARTITION_ID);
    hv_dispatch_vp dispatch{};
    dispatch.partition_id = id;
    EXPECT_EQ(root_.call(HV_CALL_DISPATCH_VP, dispatch).status, HV_STATUS_INVALID_PARTITION_ID);
  }
}

TEST_F(HypercallTest, VpCallsOnVpsThatAreNot) {
  const std::uint64_t id = active_partition();
  EXPECT_EQ(create_vp(id, 64), HV_STATUS_INVALID_VP_INDEX);
  EXPECT_EQ(root_.set_register(id, 0, abi::RegisterName::Rip, 0).status, HV_STATUS_INVALID_VP_INDEX);
  hv_dispatch_vp dispatch{};
  dispatch.partition_id = id;
  dispatch.vp_index = HV_VP_INDEX_ANY;
  EXPECT_EQ(root_.call(HV_CALL_DISPATCH_VP, dispatch).status, HV_STATUS_INVALID_VP_INDEX);
  EXPECT_EQ(root_.call(HV_CALL_DELETE_VP, hv_delete_vp{id, 3, 0}).status, HV_STATUS_INVALID_VP_INDEX);
}

TEST_F(HypercallTest, MappingRules) {
  const std::uint64_t id = active_partition();
  EXPECT_EQ(root_.map(id, 0, kGuestPage, 16).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.map(id, 8, kGuestPage + 100, 1).status, HV_STATUS_OPERATION_DENIED) << "mapped already";
  EXPECT_EQ(root_.map(id, 0x100, kDepositPage + 200, 1).status, HV_STATUS_OPERATION_DENIED) << "among deposited pages";
  EXPECT_EQ(root_.map(id, 0x100, 1, 1).status, HV_STATUS_INVALID_PARAMETER) << "the hypervisor's own";
  EXPECT_EQ(root_.map(id, 0x100, 0xfee00, 1).status, HV_STATUS_INVALID_PARAMETER) << "no RAM";
  EXPECT_EQ(root_.map(id, 0x100, ~0ull, 1).status, HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(root_.map(id, kGuestPages, kGuestPage, 1).status, HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(root_.map(id, kGuestPages - 1, kGuestPage, 2).reps, 1u) << "the second page is beyond the end";
  EXPECT_EQ(root_.map(id, 0x100, kGuestPage, 1, HV_MAP_GPA_WRITABLE).status, HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(root_.map(id, 0x100, kGuestPage, 1, HV_MAP_GPA_READABLE | 0x10).status, HV_STATUS_INVALID_PARAMETER);
  const std::uint32_t large = HV_MAP_GPA_READABLE | HV_MAP_GPA_LARGE_PAGE;
  EXPECT_EQ(root_.map(id, 0x200, kGuestPage + 512, 2, large).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.map(id, 0x601, kGuestPage + 512, 1, large).status, HV_STATUS_INVALID_PARAMETER) << "not aligned";
  EXPECT_EQ(root_.map(id, 0x600, kGuestPage + 513, 1, large).status, HV_STATUS_INVALID_PARAMETER) << "not aligned";

  EXPECT_EQ(root_.unmap(id, 0x1000, 1).status, HV_STATUS_NOT_FOUND);
  EXPECT_EQ(root_.unmap(id, 0x200, 1).status, HV_STATUS_NOT_FOUND) << "a part of a large page";
  EXPECT_EQ(root_.unmap(id, 0x200, 2, HV_UNMAP_GPA_LARGE_PAGE).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.unmap(id, 0, 20).reps, 16u);
}

TEST_F(HypercallTest, APageIsTheHypervisorsAgainOnlyWhenNobodySharesIt) {
  const std::uint64_t id = active_partition();
  EXPECT_EQ(root_.map(id, 0, kGuestPage, 2).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.deposit(id, kGuestPage + 100, 1).status, HV_STATUS_OPERATION_DENIED);
  EXPECT_EQ(root_.unmap(id, 0, 1).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.deposit(id, kGuestPage + 100, 1).status, HV_STATUS_OPERATION_DENIED);
  EXPECT_EQ(root_.unmap(id, 1, 1).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.deposit(id, kGuestPage + 100, 1).status, HV_STATUS_SUCCESS);
}

TEST_F(HypercallTest, RunningOutOfMemoryIsAStatusThatADepositMends) {
  const std::uint64_t id = root_.create_partition();
  const hv_partition_id input{id};
  EXPECT_EQ(root_.call(HV_CALL_INITIALIZE_PARTITION, input).status, HV_STATUS_INSUFFICIENT_MEMORY);
  root_.deposit(id, kDepositPage, 3);  // one of them goes to the root's own pool, for a table
  ASSERT_EQ(root_.call(HV_CALL_INITIALIZE_PARTITION, input).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(create_vp(id, 0), HV_STATUS_INSUFFICIENT_MEMORY);
  EXPECT_EQ(root_.balance(id).pages_in_use, 2u) << "nothing is lost on the way";
  root_.deposit(id, kDepositPage + 3, 4);
  EXPECT_EQ(create_vp(id, 0), HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.balance(id).pages_available, 0u);
  const Root::Result mapped = root_.map(id, 0, kGuestPage, 4);
  EXPECT_EQ(mapped.status, HV_STATUS_INSUFFICIENT_MEMORY);
  EXPECT_EQ(mapped.reps, 0u);
  root_.deposit(id, kDepositPage + 7, 3);
  EXPECT_EQ(root_.map(id, 0, kGuestPage, 4).status, HV_STATUS_SUCCESS);
}

TEST_F(HypercallTest, Lifecycle) {
  const std::uint64_t id = root_.create_partition();
  const hv_partition_id input{id};
  EXPECT_EQ(create_vp(id, 0), HV_STATUS_INVALID_PARTITION_STATE) << "not active yet";
  EXPECT_EQ(root_.call(HV_CALL_DELETE_PARTITION, input).status, HV_STATUS_INVALID_PARTITION_STATE);
  root_.deposit(id, kDepositPage, 64);
  ASSERT_EQ(root_.call(HV_CALL_INITIALIZE_PARTITION, input).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.call(HV_CALL_INITIALIZE_PARTITION, input).status, HV_STATUS_INVALID_PARTITION_STATE);
  EXPECT_EQ(create_vp(id, 0), HV_STATUS_SUCCESS);
  EXPECT_EQ(create_vp(id, 0), HV_STATUS_OBJECT_IN_USE);
  EXPECT_EQ(create_vp(id, 5), HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.call(HV_CALL_DELETE_VP, hv_delete_vp{id, 5, 0}).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.map(id, 0, kGuestPage, 300).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.map(id, 1 << 18, kGuestPage + 512, 2, HV_MAP_GPA_READABLE | HV_MAP_GPA_LARGE_PAGE).status,
            HV_STATUS_SUCCESS);

  EXPECT_EQ(root_.call(HV_CALL_FINALIZE_PARTITION, input).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(machine_.hardware.size(), 0u);
  EXPECT_EQ(root_.balance(id).pages_in_use, 0u);
  EXPECT_EQ(root_.call(HV_CALL_FINALIZE_PARTITION, input).status, HV_STATUS_INVALID_PARTITION_STATE);
  EXPECT_EQ(create_vp(id, 0), HV_STATUS_INVALID_PARTITION_STATE);
  EXPECT_EQ(root_.call(HV_CALL_DELETE_PARTITION, input).status, HV_STATUS_OPERATION_DENIED) << "memory is left";
  root_.withdraw_all(id);
  EXPECT_EQ(root_.call(HV_CALL_DELETE_PARTITION, input).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.call(HV_CALL_DELETE_PARTITION, input).status, HV_STATUS_INVALID_PARTITION_ID);
  EXPECT_EQ(root_.deposit(HV_PARTITION_ID_SELF, kGuestPage, 1).status, HV_STATUS_SUCCESS)
      << "nothing is shared any more";
}

TEST_F(HypercallTest, ChildrenAreListed) {
  const auto next = [&](std::uint64_t previous) {
    EXPECT_EQ(root_.call(HV_CALL_GET_NEXT_CHILD_PARTITION, hv_get_next_child_partition{HV_PARTITION_ID_SELF, previous})
                  .status,
              HV_STATUS_SUCCESS);
    return root_.output<std::uint64_t>();
  };
  EXPECT_EQ(next(0), 0u);
  const std::uint64_t first = root_.create_partition(), second = root_.create_partition();
  EXPECT_EQ(next(0), first);
  EXPECT_EQ(next(first), second);
  EXPECT_EQ(next(second), 0u);
}

TEST_F(HypercallTest, Properties) {
  const std::uint64_t id = active_partition();
  const auto get = [&](std::uint32_t code) {
    const hv_partition_property input{id, code, 0, 0};
    const auto bytes = std::as_bytes(std::span(&input, 1)).first(HV_GET_PARTITION_PROPERTY_INPUT_SIZE);
    const Root::Result result = root_.call(HV_CALL_GET_PARTITION_PROPERTY, bytes);
    return result.status == HV_STATUS_SUCCESS ? root_.output<std::uint64_t>() : 0x5747555300000000u + result.status;
  };
  const auto set = [&](std::uint32_t code, std::uint64_t value) {
    return root_.call(HV_CALL_SET_PARTITION_PROPERTY, hv_partition_property{id, code, 0, value}).status;
  };
  EXPECT_EQ(get(HV_PARTITION_PROPERTY_PRIVILEGE_FLAGS), 0xe7eu);
  EXPECT_EQ(get(HV_PARTITION_PROPERTY_PROCESSOR_CLOCK_FREQUENCY), fake::Machine::kFrequency);
  EXPECT_EQ(get(HV_PARTITION_PROPERTY_PHYSICAL_ADDRESS_WIDTH), 48u);
  EXPECT_EQ(get(0x12345), 0x5747555300000000u + HV_STATUS_UNKNOWN_PROPERTY);
  EXPECT_EQ(set(0x12345, 0), HV_STATUS_UNKNOWN_PROPERTY);
  EXPECT_EQ(set(HV_PARTITION_PROPERTY_PRIVILEGE_FLAGS, ~0ull), HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
  EXPECT_EQ(set(HV_PARTITION_PROPERTY_PROCESSORS_PER_SOCKET, 0), HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);

  // Reference time: 100 ns units from creation; it stands still while frozen, and can be moved then.
  machine_.tsc += fake::Machine::kFrequency;
  EXPECT_NEAR(static_cast<double>(get(HV_PARTITION_PROPERTY_REFERENCE_TIME)), 1e7, 1);
  EXPECT_EQ(set(HV_PARTITION_PROPERTY_REFERENCE_TIME, 5), HV_STATUS_INVALID_PARTITION_STATE);
  EXPECT_EQ(set(HV_PARTITION_PROPERTY_TIME_FREEZE, 1), HV_STATUS_SUCCESS);
  EXPECT_EQ(set(HV_PARTITION_PROPERTY_REFERENCE_TIME, 5000), HV_STATUS_SUCCESS);
  machine_.tsc += fake::Machine::kFrequency;
  EXPECT_EQ(get(HV_PARTITION_PROPERTY_REFERENCE_TIME), 5000u);
  EXPECT_EQ(set(HV_PARTITION_PROPERTY_TIME_FREEZE, 0), HV_STATUS_SUCCESS);
  machine_.tsc += 1000;
  EXPECT_NEAR(static_cast<double>(get(HV_PARTITION_PROPERTY_REFERENCE_TIME)), 5010, 1);
}

TEST_F(HypercallTest, StatePages) {
  const std::uint64_t id = active_partition();
  ASSERT_EQ(create_vp(id, 0), HV_STATUS_SUCCESS);
  hv_vp_state_page input{id, 0, HV_VP_STATE_PAGE_REGISTERS, 0, HV_VP_STATE_PAGE_LOCATION_GIVEN, kStatePage};
  EXPECT_EQ(root_.call(HV_CALL_MAP_VP_STATE_PAGE, input).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.call(HV_CALL_MAP_VP_STATE_PAGE, input).status, HV_STATUS_OBJECT_IN_USE);
  EXPECT_EQ(root_.deposit(id, kStatePage, 1).status, HV_STATUS_OPERATION_DENIED) << "the hypervisor writes there";
  input.type = 7;
  EXPECT_EQ(root_.call(HV_CALL_MAP_VP_STATE_PAGE, input).status, HV_STATUS_INVALID_PARAMETER);
  input.type = HV_VP_STATE_PAGE_INTERCEPT_MESSAGE;
  input.pfn = kDepositPage;
  EXPECT_EQ(root_.call(HV_CALL_MAP_VP_STATE_PAGE, input).status, HV_STATUS_OPERATION_DENIED);
  input.flags = 0;
  EXPECT_EQ(root_.call(HV_CALL_MAP_VP_STATE_PAGE, input).status, HV_STATUS_INVALID_PARAMETER);

  input.type = HV_VP_STATE_PAGE_REGISTERS;
  const auto bytes = std::as_bytes(std::span(&input, 1)).first(HV_UNMAP_VP_STATE_PAGE_INPUT_SIZE);
  EXPECT_EQ(root_.call(HV_CALL_UNMAP_VP_STATE_PAGE, bytes).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.call(HV_CALL_UNMAP_VP_STATE_PAGE, bytes).status, HV_STATUS_NOT_FOUND);
  EXPECT_EQ(root_.deposit(id, kStatePage, 1).status, HV_STATUS_SUCCESS);
}

TEST_F(HypercallTest, InterceptsAndInterruptsOfUnknownKindsAreRefused) {
  const std::uint64_t id = active_partition();
  const auto install = [&](std::uint32_t type, std::uint32_t access, std::uint64_t parameter) {
    return root_.call(HV_CALL_INSTALL_INTERCEPT, hv_install_intercept{id, access, type, parameter}).status;
  };
  EXPECT_EQ(install(0x55, 1, 0), HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(install(HV_INTERCEPT_TYPE_IO_PORT, 8, 0), HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(install(HV_INTERCEPT_TYPE_IO_PORT, 1, 0x10000), HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(install(HV_INTERCEPT_TYPE_IO_PORT_RANGE, 1, 0x10 | 0x5 << 16), HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(install(HV_INTERCEPT_TYPE_EXCEPTION, 4, 2), HV_STATUS_INVALID_PARAMETER);
  for (std::uint64_t port = 0; port < 32; ++port)
    EXPECT_EQ(install(HV_INTERCEPT_TYPE_IO_PORT, 1, port), HV_STATUS_SUCCESS);
  EXPECT_EQ(install(HV_INTERCEPT_TYPE_IO_PORT, 1, 99), HV_STATUS_INSUFFICIENT_MEMORY);
  EXPECT_EQ(install(HV_INTERCEPT_TYPE_IO_PORT, 0, 5), HV_STATUS_SUCCESS);
  EXPECT_EQ(install(HV_INTERCEPT_TYPE_IO_PORT, 1, 99), HV_STATUS_SUCCESS);

  const auto assert_interrupt = [&](std::uint32_t type, std::uint32_t vector, std::uint64_t destination) {
    return root_
        .call(HV_CALL_ASSERT_VIRTUAL_INTERRUPT, hv_assert_virtual_interrupt{id, type, 0, destination, vector, 0, {}})
        .status;
  };
  EXPECT_EQ(assert_interrupt(2, 0x40, 0), HV_STATUS_INVALID_PARAMETER) << "SMI";
  EXPECT_EQ(assert_interrupt(0, 15, 0), HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(assert_interrupt(0, 0x100, 0), HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(assert_interrupt(0, 0x40, 1ull << 32), HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(assert_interrupt(0, 0x40, 9), HV_STATUS_SUCCESS) << "an interrupt for nobody is lost, as on a machine";
}

TEST_F(HypercallTest, Information) {
  active_partition();
  EXPECT_EQ(root_.raw(HV_CALL_BULKHEAD_INFORMATION, 0, Root::kOutputPage).status, HV_STATUS_SUCCESS);
  const auto output = root_.output<hv_bulkhead_information>();
  EXPECT_EQ(output.abi_level, HV_BULKHEAD_ABI_LEVEL);
  EXPECT_EQ(output.logical_processors, 2u);
  EXPECT_EQ(output.partitions, 1u);
  EXPECT_EQ(output.maximum_vps, 64u);
  EXPECT_EQ(output.deposited_pages, 63u);
}

}  // namespace
}  // namespace bulkhead::hypervisor
