// SPDX-License-Identifier: Apache-2.0
#include "disk/file/recording_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <set>

namespace bulkhead::disk {
namespace {

constexpr std::uint64_t kSector = 512;  // what a disk writes whole or not at all

using Kind = RecordedOperation::Kind;

/// Applies `operation`; of a write only the sectors for which `keep` says so.
template <typename Keep>
void apply(CrashStates::State& state, const RecordedOperation& operation, Keep keep) {
  switch (operation.kind) {
    case Kind::write: {
      auto at = operation.offset;
      std::span<const std::byte> left(operation.bytes);
      while (!left.empty()) {
        const auto part = std::min<std::uint64_t>(left.size(), kSector - at % kSector);
        if (keep(at / kSector)) {
          state.bytes.write(at, left.first(part));
          state.size = std::max(state.size, at + part);
        }
        at += part;
        left = left.subspan(part);
      }
      break;
    }
    case Kind::zero: state.bytes.zero(operation.offset, operation.length); break;
    case Kind::resize:
      if (operation.length < state.size) {
        state.bytes.zero(operation.length, state.size - operation.length);
      }
      state.size = operation.length;
      break;
    case Kind::flush:
    case Kind::mark: break;
  }
}

void apply_whole(CrashStates::State& state, const RecordedOperation& operation) {
  apply(state, operation, [](std::uint64_t) { return true; });
}

/// The subsets of `count` operations to try, as bit vectors.
std::set<std::vector<bool>> subsets(std::size_t count, const CrashStates::Effort& effort, std::mt19937_64& random) {
  std::set<std::vector<bool>> result;
  if (count <= effort.exhaustive) {
    for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << count); ++bits) {
      std::vector<bool> subset(count);
      for (std::size_t i = 0; i < count; ++i) {
        subset[i] = ((bits >> i) & 1) != 0;
      }
      result.insert(subset);
    }
    return result;
  }
  for (std::size_t i = 0; i <= count; ++i) {
    std::vector<bool> prefix(count);
    std::fill_n(prefix.begin(), i, true);
    result.insert(prefix);
    if (i < count) {
      std::vector<bool> alone(count);
      alone[i] = true;
      result.insert(alone);
      alone.flip();
      result.insert(alone);
    }
  }
  for (unsigned sample = 0; sample < effort.samples; ++sample) {
    std::vector<bool> drawn(count);
    for (std::size_t i = 0; i < count; ++i) {
      drawn[i] = (random() & 1) != 0;
    }
    result.insert(drawn);
  }
  return result;
}

}  // namespace

void RecordingFile::mark_begin(std::uint64_t number) {
  operations_.push_back({.kind = Kind::mark, .bytes = {}, .mark = number});
}

void RecordingFile::mark_durable(std::uint64_t number) {
  operations_.push_back({.kind = Kind::mark, .bytes = {}, .mark = number, .durable = true});
}

Task<Result<>> RecordingFile::write(std::uint64_t offset, Buffers buffers) {
  RecordedOperation operation{.kind = Kind::write, .offset = offset, .bytes = {}};
  for (const auto& part : buffers) {
    const auto* first = static_cast<const std::byte*>(part.iov_base);
    operation.bytes.insert(operation.bytes.end(), first, first + part.iov_len);
  }
  operation.length = operation.bytes.size();
  operations_.push_back(std::move(operation));
  return base_.write(offset, buffers);
}

Task<Result<>> RecordingFile::flush() {
  operations_.push_back({.kind = Kind::flush, .bytes = {}, .covers = operations_.size()});
  return base_.flush();
}

Task<Result<>> RecordingFile::zero(std::uint64_t offset, std::uint64_t length, Zeroing zeroing) {
  operations_.push_back({.kind = Kind::zero, .offset = offset, .length = length, .bytes = {}});
  return base_.zero(offset, length, zeroing);
}

Task<Result<>> RecordingFile::resize(std::uint64_t size) {
  operations_.push_back({.kind = Kind::resize, .length = size, .bytes = {}});
  return base_.resize(size);
}

std::uint64_t CrashStates::each(const std::function<bool(const State&)>& check) const {
  std::mt19937_64 random(effort_.seed);
  std::uint64_t tried = 0;
  State stable{start_, size_, 0, 0, {}};
  std::vector<const RecordedOperation*> epoch;

  const auto try_epoch = [&](std::size_t at) {
    for (const auto& subset : subsets(epoch.size(), effort_, random)) {
      for (int torn = 0; torn < 2; ++torn) {
        State state = stable;
        bool has_writes = false;
        std::string kept;
        for (std::size_t i = 0; i < epoch.size(); ++i) {
          kept += subset[i] ? '1' : '0';
          if (!subset[i]) {
            continue;
          }
          if (torn != 0 && epoch[i]->kind == Kind::write && epoch[i]->length > kSector) {
            has_writes = true;
            apply(state, *epoch[i], [&](std::uint64_t) { return (random() & 1) != 0; });
          } else {
            apply_whole(state, *epoch[i]);
          }
        }
        if (torn != 0 && !has_writes) {
          continue;
        }
        state.description =
            fmt::format("crash before operation {} with {} of its epoch{}", at, kept, torn != 0 ? ", torn" : "");
        ++tried;
        if (!check(state)) {
          return false;
        }
      }
    }
    return true;
  };

  for (std::size_t at = 0; at < operations_.size(); ++at) {
    const auto& operation = operations_[at];
    if (operation.kind == Kind::flush) {
      // The power can fail at any moment up to the end of the flush: the subsets of the whole epoch include those of
      // each of its prefixes.
      if (!try_epoch(at)) {
        return tried;
      }
      for (const auto* done : epoch) {
        apply_whole(stable, *done);
      }
      epoch.clear();
    } else if (operation.kind == Kind::mark) {
      // The whole epoch may be lost even if the crash comes after this mark, so it holds for every subset.
      (operation.durable ? stable.durable : stable.begun) = operation.mark;
    } else {
      epoch.push_back(&operation);
    }
  }
  try_epoch(operations_.size());
  return tried;
}

}  // namespace bulkhead::disk
