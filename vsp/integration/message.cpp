// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/message.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace bulkhead::vsp::integration {

using namespace abi::integration;

namespace {

void append(Bytes& bytes, std::span<const std::uint8_t> more) { bytes.insert(bytes.end(), more.begin(), more.end()); }

}  // namespace

Bytes frame(MessageType type, const Versions& versions, std::uint8_t transaction, std::span<const std::uint8_t> body) {
  const PipeHeader pipe{.type = PipeHeader::kData,
                        .size = static_cast<std::uint32_t>(sizeof(MessageHeader) + body.size())};
  const MessageHeader header{.framework_version = versions.framework,
                             .type = type,
                             .message_version = versions.message,
                             .size = static_cast<std::uint16_t>(body.size()),
                             .status = Status::Ok,
                             .transaction = transaction,
                             .flags = MessageFlags::kTransaction | MessageFlags::kRequest,
                             .reserved = {}};
  Bytes bytes;
  bytes.reserve(sizeof pipe + sizeof header + body.size());
  append(bytes, bytes_of(pipe));
  append(bytes, bytes_of(header));
  append(bytes, body);
  return bytes;
}

Bytes frame_negotiation(std::uint8_t transaction, std::span<const Version> frameworks,
                        std::span<const Version> messages) {
  const Negotiate negotiate{.framework_version_count = static_cast<std::uint16_t>(frameworks.size()),
                            .message_version_count = static_cast<std::uint16_t>(messages.size()),
                            .reserved = 0};
  Bytes body;
  append(body, bytes_of(negotiate));
  for (const auto& version : frameworks) append(body, bytes_of(version));
  for (const auto& version : messages) append(body, bytes_of(version));
  return frame(MessageType::Negotiate, {}, transaction, body);
}

Result<Message> parse(std::span<const std::uint8_t> payload) {
  const auto pipe = front_of<PipeHeader>(payload);
  if (!pipe || pipe->type != PipeHeader::kData) return fail("a packet that is no message of a pipe");
  payload = payload.subspan(sizeof *pipe);
  const auto header = front_of<MessageHeader>(payload);
  if (!header) return fail(fmt::format("a message of {} bytes, shorter than its header", payload.size()));
  payload = payload.subspan(sizeof *header);
  if (header->size > payload.size()) {
    return fail(fmt::format("a message of {} bytes that says it has {}", payload.size(), header->size));
  }
  return Message{.header = *header, .body = payload.first(header->size)};
}

Result<std::optional<Versions>> parse_choice(std::span<const std::uint8_t> body, std::span<const Version> frameworks,
                                             std::span<const Version> messages) {
  const auto counts = front_of<Negotiate>(body);
  if (!counts) return fail("an answer about versions that is cut short");
  if (counts->framework_version_count == 0 || counts->message_version_count == 0) return std::nullopt;
  const auto framework = front_of<Version>(body.subspan(sizeof *counts));
  if (!framework) return fail("an answer about versions without versions");
  const auto message = front_of<Version>(body.subspan(sizeof *counts + sizeof *framework));
  if (!message) return fail("an answer about versions without a message version");
  if (std::ranges::find(frameworks, *framework) == frameworks.end() ||
      std::ranges::find(messages, *message) == messages.end()) {
    return fail(fmt::format("framework {}.{} and message {}.{}, which were not offered", framework->major,
                            framework->minor, message->major, message->minor));
  }
  return Versions{.framework = *framework, .message = *message};
}

}  // namespace bulkhead::vsp::integration
