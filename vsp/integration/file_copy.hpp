// SPDX-License-Identifier: Apache-2.0
//
// File copy (guest interface): brings one file at a time from the host into the guest. The guest answers each piece of
// 6 KiB before it gets the next.
//
//   source ◀── want(offset) ── FileCopy ── start, write … write, complete ──▶ guest's daemon
//          ─── feed(bytes) ──▶
//
// The source reads ahead in its own time: nothing here waits for a disk.
#pragma once

#include <functional>
#include <string>

#include "abi/integration/file_copy.hpp"
#include "vsp/integration/service.hpp"

namespace bulkhead::vsp::integration {

/// Where the bytes come from. Called with the machine's lock held; it must not wait.
class FileCopySource {
 public:
  virtual ~FileCopySource() = default;
  /// Bytes from `offset` on are wanted: FileCopy::feed, or fail_source, is to follow, later and with the lock held.
  virtual void want(std::uint64_t offset) = 0;
  /// Called once, at the end: the file is in the guest, or why not. The source is not used any more.
  virtual void finished(Result<> result) = 0;
};

struct FileCopyRequest {
  std::string folder = {};  // in the guest, e.g. "/tmp"
  std::string name = {};
  std::uint64_t size = 0;
  bool overwrite = false;
  bool create_folder = false;
};

class FileCopy final : public Service {
 public:
  explicit FileCopy(state::Clock& clock);

  /// Begins a copy. Errors: the service is not ready, a copy is under way, a name that cannot be sent. Otherwise
  /// `source` hears of the end, and lives until then.
  Result<> copy(const FileCopyRequest& request, FileCopySource& source);
  /// What was wanted: at least a byte, no more than the file has.
  void feed(std::span<const std::uint8_t> bytes);
  /// The source cannot be read.
  void fail_source(const Error& error);
  /// Gives the copy up, if this source's is under way; the guest is told, and the source is not.
  void cancel(const FileCopySource& source);

  std::uint64_t copied() const { return offset_; }

 private:
  enum class Step : std::uint8_t { None, Starting, Reading, Writing, Completing };

  bool on_answer(abi::integration::Status status, std::span<const std::uint8_t> body) override;
  void on_silence() override;
  void on_closed() override;
  void on_restored() override;
  void inspect_more(state::Inspection& node) const override;

  void next();
  void write_piece();
  void tell(abi::integration::FileCopyOperation operation);
  /// `tell_guest`: it shall throw away what it has.
  void finish(Result<> result, bool tell_guest);

  FileCopySource* source_ = nullptr;  // of the copy under way
  Step step_ = Step::None;
  bool cancelled_ = false;  // the guest is to be told when its answer has come
  std::uint64_t size_ = 0;
  std::uint64_t offset_ = 0;  // what the guest has
  std::uint32_t piece_ = 0;   // bytes that are on their way
  Bytes buffer_;
  std::size_t used_ = 0;  // of the buffer
};

}  // namespace bulkhead::vsp::integration
