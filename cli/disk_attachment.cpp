// SPDX-License-Identifier: Apache-2.0
#include "cli/disk_attachment.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>

#include "cli/size.hpp"
#include "disk/chain/chain.hpp"

namespace bulkhead::cli {
namespace {

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char letter : text) {
    if (letter == ',')
      parts.emplace_back();
    else
      parts.back() += letter;
  }
  return parts;
}

bool is_option(const std::string& part) {
  if (part == "read-only") return true;
  return std::ranges::any_of(std::array{"iops=", "bps=", "format=", "bus=", "number="},
                             [&](const char* name) { return part.starts_with(name); });
}

/// How many of the parts, joined, are the file's name: as many as there is a file for, or else all up to an option.
std::size_t parts_of_name(const std::vector<std::string>& parts) {
  std::string name;
  std::size_t until_option = 0, existing = 0;
  for (std::size_t count = 1; count <= parts.size(); ++count) {
    name += (count > 1 ? "," : "") + parts[count - 1];
    std::error_code ignored;
    if (std::filesystem::exists(name, ignored)) existing = count;
    if (until_option == 0 && count < parts.size() && is_option(parts[count])) until_option = count;
  }
  if (existing > 0) return existing;
  return until_option > 0 ? until_option : parts.size();
}

Result<> apply(worker::DiskOption& option, std::string& format, const std::string& part) {
  const auto equals = part.find('=');
  const std::string name = part.substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : part.substr(equals + 1);
  const auto number = [&](auto& field, std::uint64_t maximum) -> Result<> {
    std::uint64_t parsed = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
    if (error != std::errc() || end != value.data() + value.size() || parsed > maximum || value.empty()) {
      return fail(fmt::format("{} '{}' is not a number from 0 to {}", name, value, maximum));
    }
    field = static_cast<std::remove_reference_t<decltype(field)>>(parsed);
    return {};
  };
  if (part == "read-only") return option.read_only = true, Result<>();
  if (name == "iops") return number(option.iops, UINT32_MAX);
  if (name == "number") {
    std::uint8_t place = 0;
    auto parsed = number(place, 63);
    option.number = place;
    return parsed;
  }
  if (name == "bps") {
    auto size = parse_size(value);
    if (!size) return std::unexpected(size.error().within("bps"));
    option.bps = *size;
    return {};
  }
  if (name == "format" && (value == "raw" || value == "vhd" || value == "vhdx")) return format = value, Result<>();
  if (name == "bus" && (value == "scsi" || value == "ide")) return option.bus = value, Result<>();
  return fail(
      fmt::format("'{}' is none of read-only, iops=N, bps=SIZE, format=raw|vhd|vhdx, bus=scsi|ide, number=N", part));
}

/// What the first bytes of a file look like: "vhdx", "vhd", or nothing.
std::string look_of(const std::string& path) {
  const engine::FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  std::array<char, 8> first{};
  if (!file.is_open() || pread(file.get(), first.data(), first.size(), 0) != static_cast<ssize_t>(first.size())) {
    return {};
  }
  const std::string_view text(first.data(), first.size());
  if (text == "vhdxfile") return "vhdx";
  return text == "conectix" ? "vhd" : "";
}

Result<std::string> format_of(const std::string& path) {
  const auto by_name = disk::format_of_name(path);
  if (by_name != disk::Format::raw) return std::string(disk::name_of(by_name));
  std::string ending = std::filesystem::path(path).extension().string();
  std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  const bool named_raw = ending == ".raw" || ending == ".img" || ending == ".iso";
  const std::string look = named_raw ? "" : look_of(path);
  if (look.empty()) return "raw";
  return fail(fmt::format("'{}' begins like a {} image, and its name does not say so: add format={} or format=raw",
                          path, look, look));
}

/// The files of the image's chain, the image first.
Result<std::vector<std::string>> chain_of(const std::string& path, const std::string& format) {
  if (format == "raw") return std::vector{path};
  auto ring = disk::Ring::create(8);
  if (!ring) return std::unexpected(ring.error());
  disk::HostStore store(**ring);
  disk::OpenOptions options;
  options.format = format == "vhdx" ? disk::Format::vhdx : disk::Format::vhd;
  const auto wait = [&] { (*ring)->wait(); };
  auto image = disk::run(disk::open_disk(store, path, options), wait);
  if (!image) return std::unexpected(image.error());
  std::vector<std::string> files;
  for (const disk::Disk* disk = image->get(); disk != nullptr; disk = disk->parent()) files.push_back(disk->name());
  if (auto closed = disk::run((*image)->close(), wait); !closed) return std::unexpected(closed.error());
  return files;
}

Result<> open_files(DiskFiles& disk, const std::vector<std::string>& paths) {
  for (const auto& path : paths) {
    // Only the image itself is ever written to.
    const bool writes = disk.files.empty() && !disk.option.read_only;
    const int number = open(path.c_str(), (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (number < 0) {
      const char* how = writes ? " for writing (read-only would do without)" : "";
      return std::unexpected(Error::from_errno(fmt::format("cannot open '{}'{}", path, how), errno));
    }
    disk.files.emplace_back(number);
    disk.option.files.push_back({number, path});
  }
  return {};
}

}  // namespace

Result<DiskFiles> open_disk_files(const std::string& text) {
  const auto parts = split(text);
  const std::size_t count = parts_of_name(parts);
  std::string path = parts.front();
  for (std::size_t index = 1; index < count; ++index) path += "," + parts[index];
  DiskFiles disk;
  std::string format;
  for (std::size_t index = count; index < parts.size(); ++index) {
    if (auto applied = apply(disk.option, format, parts[index]); !applied) return std::unexpected(applied.error());
  }
  if (disk.option.bus == "ide" && disk.option.number.value_or(0) > 3) return fail("there are the IDE disks 0 to 3");
  if (format.empty()) {
    auto found = format_of(path);
    if (!found) return std::unexpected(found.error());
    format = *found;
  }
  disk.option.format = format;
  auto files = chain_of(path, format);
  if (!files) return std::unexpected(files.error());
  if (auto opened = open_files(disk, *files); !opened) return std::unexpected(opened.error());
  return disk;
}

Result<DiskFiles> open_dvd_files(const std::string& text) {
  DiskFiles disk;
  disk.option.kind = "dvd";
  disk.option.read_only = true;
  if (text == "none") return disk;
  if (auto opened = open_files(disk, {text}); !opened) return std::unexpected(opened.error());
  return disk;
}

}  // namespace bulkhead::cli
