// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/kvm_msrs.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "engine/kvm/kvm_abi.hpp"
#include "engine/kvm/kvm_time.hpp"

namespace bulkhead::engine::kvm {
namespace {

struct Range {
  std::uint32_t first;
  std::uint32_t last;
};
/// A processor's state that the kernel's list leaves out: memory types, machine check banks, and of Hyper-V's registers all
/// but one of each kind.
constexpr std::array kUnlisted = {
    Range{0x200, 0x20f},           Range{0x250, 0x250},           Range{0x258, 0x259},
    Range{0x268, 0x26f},           Range{0x2ff, 0x2ff},           Range{0x400, 0x47f},
    Range{0x40000082, 0x40000083}, Range{0x40000090, 0x4000009f}, Range{0x400000b0, 0x400000b7},
    Range{0x40000118, 0x40000118},
};
/// What changes by itself (the time stamp counter, its deadline, the processor's run time, the reference counter), and what
/// belongs to the host (the frequencies).
constexpr std::array<std::uint32_t, 6> kNotState = {kMsrTsc,    kMsrTscDeadline, 0x40000010,
                                                    0x40000020, 0x40000022,      0x40000023};

/// Room for `count` entries behind the header that KVM wants.
class MsrBuffer {
 public:
  explicit MsrBuffer(std::size_t count) : storage_((sizeof(kvm_msrs) + count * sizeof(kvm_msr_entry)) / 8) {}
  kvm_msrs* list() { return reinterpret_cast<kvm_msrs*>(storage_.data()); }
  kvm_msr_entry* entries() { return list()->entries; }

 private:
  std::vector<std::uint64_t> storage_;
};

}  // namespace

Result<std::vector<std::uint32_t>> saved_msrs(int device) {
  std::uint32_t count = 256;
  for (;;) {
    std::vector<std::uint32_t> storage(1 + count);
    auto* list = reinterpret_cast<kvm_msr_list*>(storage.data());
    list->nmsrs = count;
    if (ioctl(device, KVM_GET_MSR_INDEX_LIST, list) >= 0) {
      std::vector<std::uint32_t> indices(list->indices, list->indices + list->nmsrs);
      for (const auto& range : kUnlisted) {
        for (std::uint32_t index = range.first; index <= range.last; ++index) indices.push_back(index);
      }
      std::erase_if(indices,
                    [](std::uint32_t index) { return std::ranges::find(kNotState, index) != kNotState.end(); });
      std::ranges::sort(indices);
      const auto twice = std::ranges::unique(indices);
      indices.erase(twice.begin(), twice.end());
      return indices;
    }
    if (errno != E2BIG || list->nmsrs <= count) {
      return std::unexpected(Error::from_errno("cannot ask KVM for a processor's model-specific registers", errno));
    }
    count = list->nmsrs;
  }
}

std::optional<std::uint64_t> read_msr(int processor, std::uint32_t index) {
  MsrBuffer buffer(1);
  buffer.list()->nmsrs = 1;
  buffer.entries()[0].index = index;
  if (ioctl(processor, KVM_GET_MSRS, buffer.list()) != 1) return std::nullopt;
  return buffer.entries()[0].data;
}

bool write_msr(int processor, Msr msr) {
  MsrBuffer buffer(1);
  buffer.list()->nmsrs = 1;
  buffer.entries()[0].index = msr.index;
  buffer.entries()[0].data = msr.value;
  return ioctl(processor, KVM_SET_MSRS, buffer.list()) == 1;
}

std::vector<Msr> read_msrs(int processor, std::span<const std::uint32_t> indices) {
  std::vector<Msr> msrs;
  msrs.reserve(indices.size());
  while (!indices.empty()) {
    MsrBuffer buffer(indices.size());
    buffer.list()->nmsrs = static_cast<std::uint32_t>(indices.size());
    for (std::size_t place = 0; place < indices.size(); ++place) buffer.entries()[place].index = indices[place];
    // KVM stops at the first that this processor has not, and says how many it has read.
    const int read = std::max(ioctl(processor, KVM_GET_MSRS, buffer.list()), 0);
    for (int place = 0; place < read; ++place)
      msrs.push_back({buffer.entries()[place].index, buffer.entries()[place].data});
    indices = indices.subspan(std::min(static_cast<std::size_t>(read) + 1, indices.size()));
  }
  return msrs;
}

Result<> write_msrs(int processor, std::span<const Msr> msrs) {
  for (const Msr& msr : msrs) {
    const auto present = read_msr(processor, msr.index);
    if (!present) return fail(fmt::format("this kernel's KVM has no MSR {:#x}", msr.index));
    if (*present == msr.value || write_msr(processor, msr)) continue;
    return fail(fmt::format("KVM refuses to set MSR {:#x} to {:#x}", msr.index, msr.value));
  }
  return {};
}

}  // namespace bulkhead::engine::kvm
