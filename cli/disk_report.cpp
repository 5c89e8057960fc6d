// SPDX-License-Identifier: Apache-2.0
#include "cli/disk_report.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

namespace bulkhead::cli {
namespace {

/// "10.0 GiB (10737418240 bytes)".
std::string size_text(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} bytes", bytes) : fmt::format("{:.1f} {} ({} bytes)", value, kUnits[unit], bytes);
}

nlohmann::ordered_json as_json(const disk::ImageInfo& image) {
  const auto& properties = image.properties;
  nlohmann::ordered_json json = {
      {"path", image.path},
      {"format", name_of(properties.format)},
      {"kind", name_of(properties.kind)},
      {"virtual_size", properties.size},
      {"file_size", image.file_size},
      {"allocated", image.allocated},
      {"block_size", properties.block},
      {"logical_sector_size", properties.logical_sector},
      {"physical_sector_size", properties.physical_sector},
      {"recovered", image.recovered},
  };
  if (!properties.identity.is_zero()) {
    json["identity"] = properties.identity.text();
  }
  if (!image.data_write_guid.is_zero()) {
    json["data_write_guid"] = image.data_write_guid.text();
  }
  if (image.parent) {
    json["parent"] = {{"linkage", image.parent->linkage.text()}, {"paths", image.parent->paths}};
  }
  return json;
}

void print_image(const disk::ImageInfo& image) {
  const auto& properties = image.properties;
  fmt::print("{}: {} {}, {}\n", image.path, name_of(properties.format), name_of(properties.kind),
             size_text(properties.size));
  fmt::print("  file:       {}\n", size_text(image.file_size));
  fmt::print("  allocated:  {}\n", size_text(image.allocated));
  if (properties.block != 0) {
    fmt::print("  blocks of:  {}\n", size_text(properties.block));
  }
  fmt::print("  sectors:    {} bytes logical, {} bytes physical\n", properties.logical_sector,
             properties.physical_sector);
  if (!properties.identity.is_zero()) {
    fmt::print("  identity:   {}\n", properties.identity.text());
  }
  if (image.recovered) {
    fmt::print("  note:       it was not closed; its log was replayed\n");
  }
  if (image.parent) {
    fmt::print("  parent:     {} ({})\n", image.parent->paths.empty() ? "?" : image.parent->paths.front(),
               image.parent->linkage.text());
  }
}

const char* name_of(disk::Finding::Severity severity) {
  switch (severity) {
    case disk::Finding::Severity::note: return "note";
    case disk::Finding::Severity::error: return "error";
    case disk::Finding::Severity::lost: return "data lost";
  }
  return "unknown";
}

}  // namespace

void print_chain(const disk::ChainInfo& chain, Style style) {
  if (style == Style::Json) {
    auto images = nlohmann::ordered_json::array();
    for (const auto& image : chain.images) {
      images.push_back(as_json(image));
    }
    nlohmann::ordered_json json = {{"images", images}};
    if (chain.problem) {
      json["problem"] = chain.problem->message();
    }
    fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return;
  }
  for (const auto& image : chain.images) {
    print_image(image);
  }
  if (chain.problem) {
    fmt::print("the chain ends here: {}\n", chain.problem->message());
  }
}

void print_check(const disk::CheckReport& report, Style style) {
  if (style == Style::Json) {
    auto findings = nlohmann::ordered_json::array();
    for (const auto& finding : report.findings) {
      findings.push_back(
          {{"severity", name_of(finding.severity)}, {"text", finding.text}, {"repaired", finding.repaired}});
    }
    const nlohmann::ordered_json json = {{"clean", report.clean()},       {"blocks", report.blocks},
                                         {"allocated", report.allocated}, {"unused_bytes", report.unused},
                                         {"findings", findings},          {"omitted_findings", report.omitted}};
    fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return;
  }
  for (const auto& finding : report.findings) {
    fmt::print("{}: {}{}\n", name_of(finding.severity), finding.text, finding.repaired ? " (repaired)" : "");
  }
  if (report.omitted > 0) {
    fmt::print("... and {} more\n", report.omitted);
  }
  fmt::print("{}: {} of {} blocks are allocated, {} of the file are unused\n", report.clean() ? "clean" : "not clean",
             report.allocated, report.blocks, size_text(report.unused));
}

}  // namespace bulkhead::cli
