# The rooms of the hypervisor without privileged instructions. The image links them, and so do the tests on the host.
set(BULKHEAD_HYPERVISOR_CORE_SOURCES
    apic/local_apic.cpp
    decode/execute.cpp
    decode/instruction.cpp
    hypercall/memory_calls.cpp
    hypercall/partition_calls.cpp
    hypercall/root_hypercall.cpp
    hypercall/vp_calls.cpp
    memory/frame_ledger.cpp
    memory/memory_pool.cpp
    memory/root_memory.cpp
    partition/cpuid_results.cpp
    partition/intercept_table.cpp
    partition/partition.cpp
    partition/partition_table.cpp
    partition/reference_tsc_page.cpp
    vp/cpuid.cpp
    vp/events.cpp
    vp/guest_interface.cpp
    vp/hypercall.cpp
    vp/instruction.cpp
    vp/intercept.cpp
    vp/memory.cpp
    vp/msr.cpp
    vp/registers.cpp
    vp/run_loop.cpp)
list(TRANSFORM BULKHEAD_HYPERVISOR_CORE_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
