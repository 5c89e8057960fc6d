// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "hypervisor/boot/boot.hpp"
#include "hypervisor/memory/page_table.hpp"
#include "hypervisor/processor/console.hpp"
#include "hypervisor/processor/privileged.hpp"
#include "hypervisor/processor/start.hpp"
#include "hypervisor/root/root_partition.hpp"
#include "hypervisor/svm/svm.hpp"

extern "C" void (*const constructors_start[])();
extern "C" void (*const constructors_end[])();

namespace bulkhead::hypervisor::boot {

Boot boot;

namespace {

using console::Field;

constexpr std::uint64_t kFourGiB = 1ull << 32;
constexpr std::uint64_t kLowMemoryStart = 0x10000, kLowMemoryEnd = 0x9f000;
constexpr std::uint64_t kLowPages = 4;  // three for Linux, one for the trampoline

void check_processor() {
  if (!(machine::host_cpuid(0x80000001, 0).edx & (1u << 26))) fail("the processor has no pages of 1 GiB");
  if (const char* missing = svm::find_features()) fail(missing);
}

void read_firmware() {
  boot.acpi = read_acpi(boot.information.rsdp);
  if (boot.acpi.rsdp == 0) fail("no ACPI tables");
  if (boot.acpi.too_many_processors) fail("the machine has more processors than the hypervisor can own");
  hide_sleep3(boot.acpi);
  root::root_machine.sleep = boot.acpi.sleep;
  processors::common.tsc_frequency = measure_tsc(boot.acpi.pm_timer_port);
}

/// What is kept of the root's memory, in one piece: a counter for each 2 MiB, and behind them the list of RAM.
struct Bookkeeping {
  std::uint64_t counters = boot.information.memory.end_of_memory() / kLargePageSize + 1;
  /// Taking the hypervisor's own memory out splits at most one range, in three.
  std::uint64_t ranges = boot.information.memory.ranges().size() + 2;

  std::uint64_t ranges_offset() const {
    constexpr std::uint64_t kAlignment = alignof(FrameRange);
    return (counters * sizeof(std::uint16_t) + kAlignment - 1) / kAlignment * kAlignment;
  }
  std::uint64_t pages() const { return (ranges_offset() + ranges * sizeof(FrameRange) + kPageSize - 1) / kPageSize; }
};

/// Takes the hypervisor's memory out of the map that the root will see.
void choose_place(const Bookkeeping& bookkeeping) {
  const auto image_frames = static_cast<std::uint64_t>(resident_end - image_start) / kPageSize;
  const std::uint64_t processors = std::max<std::uint64_t>(boot.acpi.processor_count, 1);
  constexpr std::uint64_t kOwn = 2;  // to begin splitting the root's pages with
  const std::uint64_t body =
      image_frames + frames_for_tables() + processors * kFramesPerProcessor + kOwn + bookkeeping.pages();
  // Each 2 MiB that the hypervisor's memory begins needs a table for its 4 KiB pages in the root's view; one is counted already.
  boot.frame_count = body + (body - 1) / kPagesPerLargePage;
  const std::uint64_t size = boot.frame_count * kPageSize;
  const auto place = boot.information.memory.highest(size, kLargePageSize, 0x1000000, kFourGiB);
  if (!place) fail("not enough memory for the hypervisor");
  boot.base = Frame::at(*place);
  boot.reserve = Reserve(boot.base, boot.frame_count);
  for (const Module& module : {boot.information.kernel, boot.information.initial_ramdisk}) {
    if (module.start < *place + size && *place < module.end) fail("the loader put a module at the top of memory");
  }
  if (!boot.information.memory.retype(*place, *place + size, root::MemoryType::Reserved))
    fail("the memory map is full");
}

/// RAM that the root may deposit or map: all that it may use, in ascending order.
std::span<const FrameRange> list_ram(FrameRange* const begin) {
  FrameRange* end = begin;
  for (const root::MemoryRange& range : boot.information.memory.ranges()) {
    if (range.type != root::MemoryType::Usable) continue;
    const std::uint64_t first = (range.base + kPageSize - 1) / kPageSize;
    const std::uint64_t last = range.end() / kPageSize;
    if (last > first) *end++ = {Frame{first}, last - first};
  }
  std::sort(begin, end, [](const FrameRange& a, const FrameRange& b) { return a.first < b.first; });
  return {begin, end};
}

void start_partitions(const Bookkeeping& bookkeeping) {
  std::byte* const kept = machine::frame_pointer(take(bookkeeping.pages()));
  root::root_machine.ram = list_ram(reinterpret_cast<FrameRange*>(kept + bookkeeping.ranges_offset()));
  const Frame reserve[2] = {take(), take()};
  start({processors::common.root_table,
         boot.zero_frame,
         {reserve[0], reserve[1]},
         root::root_machine.ram,
         std::span(reinterpret_cast<std::uint16_t*>(kept), bookkeeping.counters),
         static_cast<std::uint64_t>(resident_end - image_start),
         boot.frame_count * kPageSize});
}

}  // namespace

void fail(const char* why) {
  console::line(why);
  console::line("the machine cannot be started");
  for (;;) privileged::halt();
}

Frame take(std::uint64_t count, std::uint64_t alignment) {
  const std::optional<Frame> frames = boot.reserve.allocate(count, alignment);
  if (!frames) fail("the hypervisor's memory was measured too small");
  return *frames;
}

extern "C" [[noreturn]] void boot_main(std::uint32_t magic, std::uint32_t address) {
  for (auto* constructor = constructors_start; constructor != constructors_end; ++constructor) (*constructor)();
  console::initialize();
  processors::initialize_current();
  if (const char* wrong = read_information(magic, address, boot.information)) fail(wrong);
  check_processor();
  read_firmware();
  const Bookkeeping bookkeeping;
  choose_place(bookkeeping);
  move_to_reserve();

  build_permission_maps();
  build_root_table();
  create_processors();
  start_partitions(bookkeeping);

  const auto low = boot.information.memory.lowest(kLowPages * kPageSize, kPageSize, kLowMemoryStart, kLowMemoryEnd);
  if (!low) fail("no free memory below 1 MiB");
  if (boot.information.efi) console::line("started by UEFI firmware: the root gets no EFI runtime services");
  start_processors(*low + (kLowPages - 1) * kPageSize);
  LogicalProcessor& own = *processors::all[0];
  const RootEntry entry = load_linux(*low);
  processors::prepare(own);
  enter_at(*own.root, entry);
  own.startup.start_running();
  console::line("the root starts", Field{"processors", processors::count},
                Field{"image", static_cast<std::uint64_t>(resident_end - image_start)},
                Field{"base", boot.base.address()}, Field{"memory", boot.frame_count * kPageSize},
                Field{"spare", boot.reserve.left()}, Field{"tsc", processors::common.tsc_frequency});
  processors::leave_boot(own, resident_end, image_end);
}

}  // namespace bulkhead::hypervisor::boot
