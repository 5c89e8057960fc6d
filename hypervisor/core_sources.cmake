# The rooms of the hypervisor without privileged instructions. The image links them, and so do the tests on the host.
set(BULKHEAD_HYPERVISOR_CORE_SOURCES)
