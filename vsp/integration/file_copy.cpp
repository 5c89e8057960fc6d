// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/file_copy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "vsp/integration/text.hpp"

namespace bulkhead::vsp::integration {

using namespace abi::integration;
using namespace std::chrono_literals;

namespace {

constexpr state::Nanoseconds kLimit = 40s;  // Linux gives its daemon 30 s, and then answers in its place
constexpr std::array<Version, 1> kVersions = {Version{1, 1}};
constexpr Profile kProfile = {.name = "file-copy",
                              .title = "file copy",
                              .interface_type = kFileCopyInterface,
                              .instance = kFileCopyInstance,
                              .type = MessageType::FileCopy,
                              .message_versions = kVersions};

FileCopyHeader header(FileCopyOperation operation) { return {.operation = operation, .service_ids = {}}; }

Error refusal(Status status) {
  switch (status) {
    case Status::FileExists: return Error("the file is there already in the guest");
    case Status::DiskFull: return Error("the guest has no room for the file");
    case Status::Fail: return Error("the guest could not do it; perhaps its file copy daemon does not run");
    default: return Error(fmt::format("the guest refuses, with the status {:#x}", std::to_underlying(status)));
  }
}

}  // namespace

FileCopy::FileCopy(state::Clock& clock) : Service(kProfile, clock) {}

Result<> FileCopy::copy(const FileCopyRequest& request, FileCopySource& source) {
  if (auto ready = check_ready(); !ready) return ready;
  if (step_ != Step::None || cancelled_) return fail("another file is being copied");
  const auto name = to_utf16(request.name, kFileCopyPathLength - 1, "file's name");
  if (!name) return std::unexpected(name.error());
  const auto folder = to_utf16(request.folder, kFileCopyPathLength - 1, "folder");
  if (!folder) return std::unexpected(folder.error());
  if (name->empty() || name->find(u'/') != std::u16string::npos) {
    return fail(fmt::format("'{}' is no name of a file", request.name));
  }
  FileCopyStart body{};
  body.header = header(FileCopyOperation::Start);
  put_text(body.file_name, *name);
  put_text(body.folder, *folder);
  body.flags =
      (request.overwrite ? FileCopyFlags::kOverwrite : 0) | (request.create_folder ? FileCopyFlags::kCreatePath : 0);
  body.size = request.size;
  if (auto sent = Service::request(bytes_of(body), kLimit); !sent) return sent;
  source_ = &source;
  step_ = Step::Starting;
  size_ = request.size;
  offset_ = 0;
  piece_ = 0;
  return {};
}

void FileCopy::feed(std::span<const std::uint8_t> bytes) {
  if (step_ != Step::Reading) return;
  const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), size_ - offset_));
  if (count == 0) return fail_source(Error("the file is shorter than it was"));
  buffer_.assign(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
  used_ = 0;
  write_piece();
}

void FileCopy::fail_source(const Error& error) {
  if (step_ == Step::Reading) finish(std::unexpected(error), true);
}

void FileCopy::write_piece() {
  FileCopyWrite body{};
  body.header = header(FileCopyOperation::Write);
  body.offset = offset_;
  piece_ = static_cast<std::uint32_t>(std::min(buffer_.size() - used_, kFileCopyFragmentSize));
  body.size = piece_;
  std::memcpy(body.data, buffer_.data() + used_, piece_);
  step_ = Step::Writing;
  if (auto sent = Service::request(bytes_of(body), kLimit); !sent) finish(std::move(sent), true);
}

void FileCopy::tell(FileCopyOperation operation) {
  // Its answer, if one comes, is of no use; a guest that cannot be told finds out by its own time limit.
  const auto body = header(operation);
  static_cast<void>(Service::request(bytes_of(body), kLimit));
}

void FileCopy::next() {
  if (used_ < buffer_.size()) return write_piece();
  buffer_.clear();
  used_ = 0;
  if (offset_ < size_) {
    step_ = Step::Reading;
    return source_->want(offset_);
  }
  step_ = Step::Completing;
  const auto body = header(FileCopyOperation::Complete);
  if (auto sent = Service::request(bytes_of(body), kLimit); !sent) finish(std::move(sent), false);
}

bool FileCopy::on_answer(Status status, std::span<const std::uint8_t>) {
  if (std::exchange(cancelled_, false)) return tell(FileCopyOperation::Cancel), true;
  switch (step_) {
    case Step::Starting:
      if (status != Status::Ok) return finish(std::unexpected(refusal(status)), false), true;
      break;
    case Step::Writing:
      if (status != Status::Ok) return finish(std::unexpected(refusal(status)), true), true;
      offset_ += piece_;
      used_ += piece_;
      break;
    case Step::Completing:
      if (status != Status::Ok) return finish(std::unexpected(refusal(status)), false), true;
      return finish({}, false), true;
    case Step::None:  // the answer to a cancellation
    case Step::Reading: return true;
  }
  next();
  return true;
}

void FileCopy::finish(Result<> result, bool tell_guest) {
  step_ = Step::None;
  buffer_ = {};
  used_ = 0;
  auto* source = std::exchange(source_, nullptr);
  if (tell_guest) tell(FileCopyOperation::Cancel);
  if (source != nullptr) source->finished(std::move(result));
}

void FileCopy::cancel(const FileCopySource& source) {
  if (source_ != &source) return;
  source_ = nullptr;
  const bool waits = step_ != Step::Reading;
  finish({}, !waits);
  cancelled_ = waits;
}

void FileCopy::on_silence() {
  if (std::exchange(cancelled_, false)) return;
  if (step_ != Step::None) finish(fail("the guest does not answer"), true);
}

void FileCopy::on_closed() {
  cancelled_ = false;
  if (step_ != Step::None) finish(fail("the guest has closed the file copy service"), false);
}

void FileCopy::on_restored() {
  cancelled_ = false;
  if (step_ != Step::None) finish(fail("the machine was saved meanwhile"), false);
  // A guest in the middle of a copy waits for more of it.
  if (phase() == Phase::Ready) tell(FileCopyOperation::Cancel);
}

void FileCopy::inspect_more(state::Inspection& node) const {
  node.value("copying", step_ != Step::None);
  if (step_ == Step::None) return;
  node.value("bytes", size_);
  node.value("copied-bytes", offset_);
}

}  // namespace bulkhead::vsp::integration
