// SPDX-License-Identifier: Apache-2.0
//
// The command that copies a file into the guest. The client has opened the file: the worker needs no right to.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <memory>
#include <vector>

#include "worker/control/commands.hpp"

namespace bulkhead::worker::control {
namespace {

using vsp::integration::FileCopy;
using vsp::integration::FileCopySource;

constexpr std::size_t kReadSize = 256 << 10;

/// A file of the host, read on the event loop. It keeps itself alive until the copy has come to its end.
class HostFile final : public FileCopySource, public std::enable_shared_from_this<HostFile> {
 public:
  HostFile(boost::asio::io_context& event_loop, ControlledMachine& machine, FileCopy& copy, engine::FileDescriptor file,
           std::function<void(Result<>)> done)
      : event_loop_(event_loop), machine_(machine), copy_(copy), file_(std::move(file)), done_(std::move(done)) {}

  /// With the machine's lock held.
  Result<> begin(const vsp::integration::FileCopyRequest& request) {
    auto begun = copy_.copy(request, *this);
    if (begun) self_ = shared_from_this();
    return begun;
  }
  /// Without it.
  void abandon() {
    const auto lock = machine_.hold();
    copy_.cancel(*this);
    self_.reset();
  }

 private:
  void want(std::uint64_t offset) override {
    boost::asio::post(event_loop_, [self = shared_from_this(), offset] { self->read(offset); });
  }

  void finished(Result<> result) override {
    // The caller still uses this object: it goes later.
    boost::asio::post(event_loop_, [self = std::move(self_)] {});
    done_(std::move(result));
  }

  void read(std::uint64_t offset) {
    std::vector<std::uint8_t> bytes(kReadSize);
    ssize_t count = 0;
    do {
      count = pread(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    } while (count < 0 && errno == EINTR);
    const int error = errno;
    const auto lock = machine_.hold();
    if (!self_) return;  // it has ended meanwhile
    if (count < 0) return copy_.fail_source(Error::from_errno("cannot read the file", error));
    bytes.resize(static_cast<std::size_t>(count));
    copy_.feed(bytes);
  }

  boost::asio::io_context& event_loop_;
  ControlledMachine& machine_;
  FileCopy& copy_;
  engine::FileDescriptor file_;
  std::function<void(Result<>)> done_;
  std::shared_ptr<HostFile> self_;  // while the copy is under way
};

}  // namespace

Abandoned Commands::copy(Arguments& arguments, Files files, const Reply& reply) {
  vsp::integration::FileCopyRequest request{.folder = arguments.text("folder"),
                                            .name = arguments.text("name"),
                                            .overwrite = arguments.flag("overwrite"),
                                            .create_folder = arguments.flag("createFolder")};
  const auto refuse = [&](const Error& error) -> Abandoned { return reply(std::unexpected(error)), nullptr; };
  if (auto read = arguments.finish(); !read) return refuse(read.error());
  struct stat status{};
  if (files.size() != 1) return refuse(Error("one file's descriptor comes with this request"));
  engine::FileDescriptor& file = files.front();
  if (fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return refuse(Error("what came is not a file"));
  request.size = static_cast<std::uint64_t>(status.st_size);

  const auto lock = machine_.hold();
  auto* services = machine_.integration();
  if (services == nullptr) return refuse(Error("this machine has no VMBus, and so no integration services"));
  auto* service = services->file_copy();
  if (service == nullptr) return refuse(Error("the file copy is switched off for this machine"));
  const auto source = std::make_shared<HostFile>(event_loop_, machine_, *service, std::move(file), done(reply));
  if (auto begun = source->begin(request); !begun) return refuse(begun.error());
  return [source] { source->abandon(); };
}

}  // namespace bulkhead::worker::control
