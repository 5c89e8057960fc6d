// SPDX-License-Identifier: Apache-2.0
#include "worker/disk_option.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <nlohmann/json.hpp>

namespace bulkhead::worker {
namespace {

using nlohmann::json;

/// Reads one object's fields, and remembers the first that is not as it should be.
class Fields {
 public:
  explicit Fields(const json& object) : object_(object) {}

  void choice(const char* name, std::string& value, std::initializer_list<std::string_view> choices) {
    const json* field = take(name);
    if (field == nullptr) return;
    if (!field->is_string() || std::ranges::find(choices, field->get<std::string>()) == choices.end())
      return complain(name, fmt::format("is none of {}", fmt::join(choices, ", ")));
    value = field->get<std::string>();
  }
  template <typename Number>
  void number(const char* name, Number& value, std::uint64_t maximum) {
    const json* field = take(name);
    if (field == nullptr) return;
    if (!field->is_number_unsigned() || field->get<std::uint64_t>() > maximum)
      return complain(name, fmt::format("is not a number from 0 to {}", maximum));
    value = static_cast<Number>(field->get<std::uint64_t>());
  }
  void flag(const char* name, bool& value) {
    const json* field = take(name);
    if (field == nullptr) return;
    if (!field->is_boolean()) return complain(name, "is neither true nor false");
    value = field->get<bool>();
  }
  void text(const char* name, std::string& value) {
    const json* field = take(name);
    if (field == nullptr) return;
    if (!field->is_string()) return complain(name, "is no text");
    value = field->get<std::string>();
  }
  const json* take(const char* name) {
    const auto found = object_.find(name);
    if (found == object_.end()) return nullptr;
    ++taken_;
    return &*found;
  }
  void complain(std::string_view name, std::string_view what) {
    if (complaint_.empty()) complaint_ = fmt::format("'{}' {}", name, what);
  }
  Result<> finish() const {
    if (!complaint_.empty()) return fail(complaint_);
    if (taken_ != object_.size()) return fail("it has a field that is unknown");
    return {};
  }

 private:
  const json& object_;
  std::size_t taken_ = 0;
  std::string complaint_;
};

Result<std::vector<DiskOption::File>> parse_files(const json& list) {
  if (!list.is_array()) return fail("'files' is no list");
  std::vector<DiskOption::File> files;
  for (const auto& entry : list) {
    if (!entry.is_object()) return fail("'files' has an entry that is no object");
    DiskOption::File file;
    Fields fields(entry);
    fields.number("fd", file.fd, INT_MAX);
    fields.text("path", file.path);
    if (auto read = fields.finish(); !read) return std::unexpected(read.error());
    if (file.fd < 0) return fail("'files' has an entry without 'fd'");
    files.push_back(std::move(file));
  }
  return files;
}

}  // namespace

std::string to_text(const DiskOption& option) {
  json files = json::array();
  for (const auto& file : option.files) files.push_back({{"fd", file.fd}, {"path", file.path}});
  json object = {{"kind", option.kind}, {"bus", option.bus}, {"format", option.format},      {"files", files},
                 {"iops", option.iops}, {"bps", option.bps}, {"read-only", option.read_only}};
  if (option.number) object["number"] = *option.number;
  return object.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<DiskOption> parse_disk_option(std::string_view text) {
  const auto object = json::parse(text, nullptr, false);
  if (!object.is_object()) return fail("it is no JSON object");
  DiskOption option;
  Fields fields(object);
  fields.choice("kind", option.kind, {"disk", "dvd"});
  fields.choice("bus", option.bus, {"scsi", "ide"});
  fields.choice("format", option.format, {"raw", "vhd", "vhdx"});
  fields.number("number", option.number, option.bus == "ide" ? 3 : 63);
  fields.flag("read-only", option.read_only);
  fields.number("iops", option.iops, UINT64_MAX);
  fields.number("bps", option.bps, UINT64_MAX);
  if (const json* list = fields.take("files")) {
    auto files = parse_files(*list);
    if (!files) return std::unexpected(files.error());
    option.files = std::move(*files);
  }
  if (auto read = fields.finish(); !read) return std::unexpected(read.error());
  if (option.kind == "disk" && option.files.empty()) return fail("a disk needs 'files'");
  if (option.kind == "dvd" && option.files.size() > 1) return fail("a DVD drive has one disc");
  return option;
}

}  // namespace bulkhead::worker
