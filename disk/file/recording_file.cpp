// SPDX-License-Identifier: Apache-2.0
#include "disk/file/recording_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <random>
#include <set>

namespace bulkhead::disk {
namespace {

constexpr std::uint64_t kSector = 512;  // what a disk writes whole or not at all

using Kind = RecordedOperation::Kind;

/// Applies `operation`; of a write only the sectors for which `keep` says so.
template <typename Keep>
void apply(CrashStates::State& state, const RecordedOperation& operation, Keep keep) {
  auto& file = state.files[operation.file];
  switch (operation.kind) {
    case Kind::write: {
      auto at = operation.offset;
      std::span<const std::byte> left(operation.bytes);
      while (!left.empty()) {
        const auto part = std::min<std::uint64_t>(left.size(), kSector - at % kSector);
        if (keep(at / kSector)) {
          file.bytes.write(at, left.first(part));
          file.size = std::max(file.size, at + part);
        }
        at += part;
        left = left.subspan(part);
      }
      break;
    }
    case Kind::zero: file.bytes.zero(operation.offset, operation.length); break;
    case Kind::resize:
      if (operation.length < file.size) {
        file.bytes.zero(operation.length, file.size - operation.length);
      }
      file.size = operation.length;
      break;
    case Kind::flush_began:
    case Kind::flush_ended:
    case Kind::mark: break;
  }
}

void apply_whole(CrashStates::State& state, const RecordedOperation& operation) {
  apply(state, operation, [](std::uint64_t) { return true; });
}

using Epoch = std::vector<const RecordedOperation*>;

/// `state` and a subset of `epoch`, whole or (`torn`) with a random half of the sectors of each longer write. Nothing
/// if there is no such write to be torn.
std::optional<CrashStates::State> leave(const CrashStates::State& stable, const Epoch& epoch,
                                        const std::vector<bool>& subset, bool torn, std::mt19937_64& random) {
  auto state = stable;
  bool has_torn = false;
  for (std::size_t i = 0; i < epoch.size(); ++i) {
    if (!subset[i]) {
      continue;
    }
    if (torn && epoch[i]->kind == Kind::write && epoch[i]->length > kSector) {
      has_torn = true;
      apply(state, *epoch[i], [&](std::uint64_t) { return (random() & 1) != 0; });
    } else {
      apply_whole(state, *epoch[i]);
    }
  }
  return torn && !has_torn ? std::nullopt : std::optional(std::move(state));
}

std::string describe(std::size_t at, const std::vector<bool>& subset, bool torn) {
  std::string kept;
  for (const bool one : subset) {
    kept += one ? '1' : '0';
  }
  return fmt::format("crash before operation {} with {} of its epoch{}", at, kept, torn ? ", torn" : "");
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

std::size_t Recording::add(RecordedOperation operation) {
  operations_.push_back(std::move(operation));
  return operations_.size() - 1;
}

void Recording::mark_begin(std::uint64_t number) { add({.kind = Kind::mark, .bytes = {}, .mark = number}); }

void Recording::mark_durable(std::uint64_t number) {
  add({.kind = Kind::mark, .bytes = {}, .mark = number, .durable = true});
}

Task<Result<>> RecordingFile::write(std::uint64_t offset, Buffers buffers) {
  RecordedOperation operation{.kind = Kind::write, .file = number_, .offset = offset, .bytes = {}};
  for (const auto& part : buffers) {
    const auto* first = static_cast<const std::byte*>(part.iov_base);
    operation.bytes.insert(operation.bytes.end(), first, first + part.iov_len);
  }
  operation.length = operation.bytes.size();
  const auto index = recording_.add(std::move(operation));
  auto done = co_await base_.write(offset, buffers);
  recording_.end(index);
  co_return done;
}

Task<Result<>> RecordingFile::flush() {
  const auto began = recording_.add({.kind = Kind::flush_began, .file = number_, .bytes = {}});
  auto done = co_await base_.flush();
  if (done) {
    recording_.add({.kind = Kind::flush_ended, .file = number_, .bytes = {}, .began = began});
  }
  co_return done;
}

Task<Result<>> RecordingFile::zero(std::uint64_t offset, std::uint64_t length, Zeroing zeroing) {
  const auto index =
      recording_.add({.kind = Kind::zero, .file = number_, .offset = offset, .length = length, .bytes = {}});
  auto done = co_await base_.zero(offset, length, zeroing);
  recording_.end(index);
  co_return done;
}

Task<Result<>> RecordingFile::resize(std::uint64_t size) {
  const auto index = recording_.add({.kind = Kind::resize, .file = number_, .length = size, .bytes = {}});
  auto done = co_await base_.resize(size);
  recording_.end(index);
  co_return done;
}

std::uint64_t CrashStates::each(const std::function<bool(const State&)>& check) const {
  std::mt19937_64 random(effort_.seed);
  std::uint64_t tried = 0;
  State stable{start_, 0, 0, {}};
  Epoch epoch;
  const auto try_epoch = [&](std::size_t at) {
    for (const auto& subset : subsets(epoch.size(), effort_, random)) {
      for (const bool torn : {false, true}) {
        if (auto state = leave(stable, epoch, subset, torn, random)) {
          state->description = describe(at, subset, torn);
          ++tried;
          if (!check(*state)) {
            return false;
          }
        }
      }
    }
    return true;
  };
  for (std::size_t at = 0; at < operations_.size(); ++at) {
    const auto& operation = operations_[at];
    switch (operation.kind) {
      case Kind::flush_began: break;
      case Kind::flush_ended: {
        // The power can fail at any moment up to here: the subsets of the whole epoch include those of each prefix.
        if (!try_epoch(at)) {
          return tried;
        }
        const auto durable = [&operation](const RecordedOperation* change) {
          return change->file == operation.file && change->ended <= operation.began;
        };
        for (const auto* change : epoch) {
          if (durable(change)) {
            apply_whole(stable, *change);
          }
        }
        std::erase_if(epoch, durable);
        break;
      }
      case Kind::mark:
        // The whole epoch may be lost even if the crash comes after this mark, so it holds for every subset.
        (operation.durable ? stable.durable : stable.begun) = operation.mark;
        break;
      case Kind::write:
      case Kind::zero:
      case Kind::resize: epoch.push_back(&operation); break;
    }
  }
  try_epoch(operations_.size());
  return tried;
}

}  // namespace bulkhead::disk
