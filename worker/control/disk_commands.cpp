// SPDX-License-Identifier: Apache-2.0
//
// The commands about the machine's disks. The client has opened the files: the worker needs no right to.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "worker/control/commands.hpp"

namespace bulkhead::worker::control {
namespace {

using vsp::storage::StorageController;

/// The number of a disk, which must be there.
std::uint8_t disk_number(Arguments& arguments) {
  return static_cast<std::uint8_t>(arguments.number_up_to("number", StorageController::kMaximumUnits - 1));
}

/// What the fields say of a new disk, with the files that came.
Result<DiskAttachment> to_attachment(Arguments& arguments, Files files) {
  DiskOption option;
  option.kind = arguments.choice("kind", option.kind, {"disk", "dvd"});
  option.format = arguments.choice("format", option.format, {"raw", "vhd", "vhdx"});
  if (arguments.has("number")) option.number = disk_number(arguments);
  option.read_only = arguments.flag("readOnly");
  option.iops = arguments.number("iops", 0);
  option.bps = arguments.number("bps", 0);
  const auto paths = arguments.texts("paths");
  if (auto read = arguments.finish(); !read) return std::unexpected(read.error());
  if (paths.size() != files.size()) {
    return fail(fmt::format("{} files came with the request, and \"paths\" names {}", files.size(), paths.size()));
  }
  if (option.kind == "disk" && files.empty()) return fail("a disk needs a file");
  if (option.kind == "dvd" && files.size() > 1) return fail("a DVD drive has one disc");
  for (std::size_t index = 0; index < files.size(); ++index) {
    option.files.push_back({.fd = files[index].release(), .path = paths[index]});
  }
  return DiskAttachment(std::move(option));
}

}  // namespace

void Commands::attach_disk(Arguments& arguments, Files files, const Reply& reply) {
  auto disk = to_attachment(arguments, std::move(files));
  if (!disk) return reply(std::unexpected(disk.error()));
  const auto number = machine_.attach_disk(std::move(*disk));
  if (!number) return reply(std::unexpected(number.error()));
  reply(Json{{"number", *number}});
}

void Commands::detach_disk(Arguments& arguments, const Reply& reply) {
  const std::uint8_t number = disk_number(arguments);
  auto result = arguments.finish();
  // The image is closed later, and then the reply is given.
  if (result) result = machine_.detach_disk(number, done(reply));
  if (!result) reply(std::unexpected(result.error()));
}

void Commands::resize_disk(Arguments& arguments, const Reply& reply) {
  const std::uint8_t number = disk_number(arguments);
  const std::uint64_t size = arguments.number_up_to("size", UINT64_MAX);
  auto result = arguments.finish();
  if (result) result = machine_.grow_disk(number, size);
  done(reply)(std::move(result));
}

void Commands::set_limits(Arguments& arguments, const Reply& reply) {
  const std::uint8_t number = disk_number(arguments);
  const vsp::storage::Limits limits{.operations_per_second = arguments.number("iops", 0),
                                    .bytes_per_second = arguments.number("bps", 0)};
  auto result = arguments.finish();
  if (result) result = machine_.set_disk_limits(number, limits);
  done(reply)(std::move(result));
}

}  // namespace bulkhead::worker::control
