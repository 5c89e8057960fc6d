// SPDX-License-Identifier: Apache-2.0
#include "cli/disk_command.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <functional>
#include <memory>

#include "cli/disk_report.hpp"
#include "cli/disk_serve.hpp"
#include "cli/progress_bar.hpp"
#include "cli/size.hpp"
#include "disk/operation/change.hpp"
#include "disk/operation/convert.hpp"

namespace bulkhead::cli {
namespace {

using disk::Format;
using disk::Kind;

/// Everything that a `bulkhead disk` command line can say. Each subcommand uses some of it.
struct Arguments {
  std::string path;
  std::string target;
  std::string size;
  std::string block;
  std::string format;
  std::string source_format;
  std::string kind = "dynamic";
  std::string parent;
  std::uint32_t logical_sector = 0;
  std::uint32_t physical_sector = 0;
  bool azure = false;
  bool json = false;
  bool repair = false;
  bool keep = false;
  bool reconnect = false;
  std::vector<std::string> parent_directories;
  ServeOptions serve;

  std::optional<Format> format_of(const std::string& name) const {
    return name == "raw"    ? std::optional(Format::raw)
           : name == "vhd"  ? std::optional(Format::vhd)
           : name == "vhdx" ? std::optional(Format::vhdx)
                            : std::nullopt;
  }
  Style style() const { return json ? Style::Json : Style::Text; }
};

using SharedArguments = std::shared_ptr<Arguments>;

/// Runs one operation over the host's files and prints its error.
int perform(const Arguments& arguments, const std::function<disk::Task<Result<>>(disk::ImageStore&)>& operation) {
  auto ring = disk::Ring::create();
  Result<> done;
  if (!ring) {
    done = std::unexpected(ring.error());
  } else {
    disk::HostStore store(**ring, arguments.parent_directories);
    done = disk::run(operation(store), [&ring] { (*ring)->wait(); });
  }
  if (!done) {
    fmt::print(stderr, "bulkhead: {}\n", done.error().message());
  }
  return done ? 0 : 1;
}

disk::Progress progress_of(const std::shared_ptr<ProgressBar>& bar) {
  return [bar](std::uint64_t done, std::uint64_t total) { return bar->show(done, total); };
}

/// The parts of a new image that create and convert share.
Result<disk::NewImage> new_image(const Arguments& arguments, const std::string& path) {
  disk::NewImage image;
  image.path = path;
  image.format = arguments.format_of(arguments.format);
  image.kind = arguments.kind == "fixed" ? Kind::fixed : Kind::dynamic;
  image.logical_sector = arguments.logical_sector;
  image.physical_sector = arguments.physical_sector;
  image.azure = arguments.azure;
  image.parent = arguments.parent;
  if (!arguments.size.empty()) {
    const auto size = parse_size(arguments.size);
    if (!size) {
      return std::unexpected(size.error());
    }
    image.size = *size;
  }
  if (!arguments.block.empty()) {
    auto size = parse_size(arguments.block);
    if (!size || *size > 0xffffffff) {
      return fail(fmt::format("'{}' is not the size of a block", arguments.block));
    }
    image.block = static_cast<std::uint32_t>(*size);
  }
  return image;
}

void add_image_options(CLI::App& command, Arguments& arguments) {
  const auto formats = CLI::IsMember({"raw", "vhd", "vhdx"});
  command.add_option("--format", arguments.format, "raw, vhd or vhdx; by default what the name's ending says")
      ->check(formats);
  command.add_option("--kind", arguments.kind, "fixed or dynamic")
      ->capture_default_str()
      ->check(CLI::IsMember({"fixed", "dynamic"}));
  command.add_option("--block-size", arguments.block, "VHDX: 1M to 256M (32M); VHD: 512K or 2M (2M)");
  command.add_option("--sector-size", arguments.logical_sector, "VHDX: 512 or 4096 bytes (512)")
      ->check(CLI::IsMember({512, 4096}));
  command.add_option("--physical-sector-size", arguments.physical_sector, "VHDX: 512 or 4096 bytes (4096)")
      ->check(CLI::IsMember({512, 4096}));
  command.add_flag("--azure", arguments.azure, "VHD: round the size up to whole MiB, as Azure demands");
}

void add_create(CLI::App& disk, const SharedArguments& arguments, int& status) {
  auto* command = disk.add_subcommand("create", "Make an empty disk");
  command->add_option("path", arguments->path, "The image to make")->required();
  command->add_option("--size", arguments->size, "For example 100G; with --parent by default the parent's");
  command->add_option("--parent", arguments->parent, "Make a differencing image over this one");
  add_image_options(*command, *arguments);
  command->callback([arguments, &status] {
    status = perform(*arguments, [&](disk::ImageStore& store) -> disk::Task<Result<>> {
      auto image = new_image(*arguments, arguments->path);
      if (!image) {
        co_return std::unexpected(image.error());
      }
      co_return co_await disk::create_image(store, std::move(*image));
    });
  });
}

void add_info(CLI::App& disk, const SharedArguments& arguments, int& status) {
  auto* command = disk.add_subcommand("info", "Say what an image is, and its parents");
  command->add_option("path", arguments->path, "The image")->required();
  command->add_flag("--json", arguments->json, "As one JSON object");
  command->callback([arguments, &status] {
    status = perform(*arguments, [&](disk::ImageStore& store) -> disk::Task<Result<>> {
      auto chain = co_await disk::chain_info(store, arguments->path, arguments->format_of(arguments->source_format));
      if (!chain) {
        co_return std::unexpected(chain.error());
      }
      print_chain(*chain, arguments->style());
      co_return Result<>();
    });
  });
}

void add_check(CLI::App& disk, const SharedArguments& arguments, int& status) {
  auto* command = disk.add_subcommand("check", "Look for damage in an image's tables");
  command->add_option("path", arguments->path, "The image")->required();
  command->add_flag("--repair", arguments->repair, "Bring back what can be");
  command->add_flag("--json", arguments->json, "As one JSON object");
  command->callback([arguments, &status] {
    bool clean = true;
    status = perform(*arguments, [&](disk::ImageStore& store) -> disk::Task<Result<>> {
      auto report = co_await disk::check_image(store, arguments->path, arguments->format_of(arguments->source_format),
                                               arguments->repair ? disk::Repairing::yes : disk::Repairing::no);
      if (!report) {
        co_return std::unexpected(report.error());
      }
      print_check(*report, arguments->style());
      clean = report->clean();
      co_return Result<>();
    });
    status = status == 0 && !clean ? 2 : status;
  });
}

void add_convert(CLI::App& disk, const SharedArguments& arguments, int& status) {
  auto* command = disk.add_subcommand("convert", "Copy a disk into a new image of another format or kind");
  command->add_option("source", arguments->path, "The image to read, with its parents")->required();
  command->add_option("target", arguments->target, "The image to make")->required();
  add_image_options(*command, *arguments);
  command->callback([arguments, &status] {
    status = perform(*arguments, [&](disk::ImageStore& store) -> disk::Task<Result<>> {
      auto image = new_image(*arguments, arguments->target);
      if (!image) {
        co_return std::unexpected(image.error());
      }
      disk::Conversion conversion;
      conversion.source = arguments->path;
      conversion.source_format = arguments->format_of(arguments->source_format);
      conversion.target = std::move(*image);
      conversion.progress = progress_of(std::make_shared<ProgressBar>("converting"));
      co_return co_await disk::convert(store, std::move(conversion));
    });
  });
}

void add_resize(CLI::App& disk, const SharedArguments& arguments, int& status) {
  auto* command = disk.add_subcommand("resize", "Make a disk larger, or smaller if nothing is cut off");
  command->add_option("path", arguments->path, "The image")->required();
  command->add_option("size", arguments->size, "The new size, for example 200G")->required();
  command->callback([arguments, &status] {
    status = perform(*arguments, [&](disk::ImageStore& store) -> disk::Task<Result<>> {
      const auto size = parse_size(arguments->size);
      if (!size) {
        co_return std::unexpected(size.error());
      }
      co_return co_await disk::resize_image(store, arguments->path, arguments->format_of(arguments->source_format),
                                            *size);
    });
  });
}

void add_compact(CLI::App& disk, const SharedArguments& arguments, int& status) {
  auto* command = disk.add_subcommand("compact", "Give space that holds only zeros or nothing back to the host");
  command->add_option("path", arguments->path, "The image")->required();
  command->callback([arguments, &status] {
    status = perform(*arguments, [&](disk::ImageStore& store) {
      return disk::compact_image(store, arguments->path, arguments->format_of(arguments->source_format),
                                 progress_of(std::make_shared<ProgressBar>("compacting")));
    });
  });
}

void add_merge(CLI::App& disk, const SharedArguments& arguments, int& status) {
  auto* command = disk.add_subcommand("merge", "Write a differencing image into its parent, and remove it");
  command->add_option("path", arguments->path, "The differencing image")->required();
  command->add_flag("--keep", arguments->keep, "Do not remove it");
  command->callback([arguments, &status] {
    status = perform(*arguments, [&](disk::ImageStore& store) {
      return disk::merge_image(store, arguments->path, arguments->format_of(arguments->source_format),
                               arguments->keep ? disk::MergedChild::keep : disk::MergedChild::remove,
                               progress_of(std::make_shared<ProgressBar>("merging")));
    });
  });
}

void add_flatten(CLI::App& disk, const SharedArguments& arguments, int& status) {
  auto* command =
      disk.add_subcommand("flatten", "Copy what its parents hold into a differencing image, and cut it off");
  command->add_option("path", arguments->path, "The differencing image")->required();
  command->callback([arguments, &status] {
    status = perform(*arguments, [&](disk::ImageStore& store) {
      return disk::flatten_image(store, arguments->path, arguments->format_of(arguments->source_format),
                                 progress_of(std::make_shared<ProgressBar>("flattening")));
    });
  });
}

void add_rebase(CLI::App& disk, const SharedArguments& arguments, int& status) {
  auto* command = disk.add_subcommand("rebase", "Give a differencing image another parent, keeping its content");
  command->add_option("path", arguments->path, "The differencing image")->required();
  command->add_option("--parent", arguments->parent, "The new parent")->required();
  command->add_flag("--reconnect", arguments->reconnect, "It is the same parent, at a new place: copy nothing");
  command->callback([arguments, &status] {
    status = perform(*arguments, [&](disk::ImageStore& store) {
      return disk::rebase_image(store, arguments->path, arguments->format_of(arguments->source_format),
                                arguments->parent,
                                arguments->reconnect ? disk::Rebasing::reconnect : disk::Rebasing::copy,
                                progress_of(std::make_shared<ProgressBar>("rebasing")));
    });
  });
}

void add_serve(CLI::App& disk, const SharedArguments& arguments, int& status) {
  auto* command = disk.add_subcommand("serve", "Lend a disk to NBD clients until interrupted");
  auto& serve = arguments->serve;
  command->add_option("path", serve.path, "The image")->required();
  auto* socket = command->add_option("--socket", serve.socket, "A unix socket to listen on");
  command->add_option("--port", serve.port, "A TCP port to listen on (10809)")->excludes(socket);
  command->add_option("--bind", serve.address, "The IPv4 address of that port")->capture_default_str();
  command->add_flag("--read-only", serve.read_only, "Let nobody write");
  command->add_flag("--once", serve.once, "End when the last client has gone");
  command->callback([arguments, &status] {
    arguments->serve.format = arguments->format_of(arguments->source_format);
    arguments->serve.parent_directories = arguments->parent_directories;
    const auto served = serve_disk(arguments->serve);
    if (!served) {
      fmt::print(stderr, "bulkhead: {}\n", served.error().message());
    }
    status = served ? 0 : 1;
  });
}

}  // namespace

void add_disk(CLI::App& app, int& status) {
  auto arguments = std::make_shared<Arguments>();
  auto* disk = app.add_subcommand("disk", "Make, look at and change virtual disks")->require_subcommand(1);
  add_create(*disk, arguments, status);
  add_info(*disk, arguments, status);
  add_check(*disk, arguments, status);
  add_convert(*disk, arguments, status);
  add_resize(*disk, arguments, status);
  add_compact(*disk, arguments, status);
  add_merge(*disk, arguments, status);
  add_flatten(*disk, arguments, status);
  add_rebase(*disk, arguments, status);
  add_serve(*disk, arguments, status);
  for (auto* command : disk->get_subcommands({})) {
    command->add_option("--parent-directory", arguments->parent_directories,
                        "A directory in which parents may be, besides the image's own");
    if (command->get_name() != "create") {
      command
          ->add_option("--source-format", arguments->source_format,
                       "What the image is: raw, vhd or vhdx; by default what its name's ending says")
          ->check(CLI::IsMember({"raw", "vhd", "vhdx"}));
    }
  }
}

}  // namespace bulkhead::cli
