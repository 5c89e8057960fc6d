// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/key_value_message.hpp"

#include <fmt/format.h>

#include "vsp/integration/text.hpp"

namespace bulkhead::vsp::integration {

using namespace abi::integration;

namespace {

Bytes to_bytes(std::span<const std::uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

KeyValueHeader header(KeyValueOperation operation, KeyValuePool pool) {
  return {.operation = operation, .pool = pool, .reserved = 0};
}

Result<std::u16string> key_text(std::string_view key) {
  if (key.empty()) return fail("the key is empty");
  return to_utf16(key, kKeySize / 2 - 1, "key");
}

/// A value as text, whatever its type.
std::optional<std::string> value_text(const KeyValue& item) {
  const std::span<const std::uint8_t> value(item.value);
  switch (item.type) {
    case KeyValueType::String:
    case KeyValueType::ExpandString:
      if (item.value_size > kValueSize) return std::nullopt;
      return to_utf8(value.first(item.value_size));
    case KeyValueType::Number: return fmt::to_string(*front_of<std::uint32_t>(value));
    case KeyValueType::LongNumber: return fmt::to_string(*front_of<std::uint64_t>(value));
  }
  return std::nullopt;
}

std::optional<KeyValueItem> to_item(const KeyValue& item) {
  auto value = value_text(item);
  if (!value || item.key_size > kKeySize) return std::nullopt;
  return KeyValueItem{.key = to_utf8(std::span(item.key).first(item.key_size)), .value = std::move(*value)};
}

}  // namespace

Result<Bytes> get_message(KeyValuePool pool, std::string_view key) {
  const auto text = key_text(key);
  if (!text) return std::unexpected(text.error());
  KeyValueMessage message{};
  message.header = header(KeyValueOperation::Get, pool);
  message.item.type = KeyValueType::String;
  message.item.key_size = put_text(message.item.key, *text);
  return to_bytes(bytes_of(message));
}

Result<Bytes> set_message(KeyValuePool pool, std::string_view key, std::string_view value) {
  const auto key_utf16 = key_text(key);
  if (!key_utf16) return std::unexpected(key_utf16.error());
  const auto value_utf16 = to_utf16(value, kValueSize / 2 - 1, "value");
  if (!value_utf16) return std::unexpected(value_utf16.error());
  KeyValueMessage message{};
  message.header = header(KeyValueOperation::Set, pool);
  message.item.type = KeyValueType::String;
  message.item.key_size = put_text(message.item.key, *key_utf16);
  message.item.value_size = put_text(message.item.value, *value_utf16);
  return to_bytes(bytes_of(message));
}

Result<Bytes> delete_message(KeyValuePool pool, std::string_view key) {
  const auto text = key_text(key);
  if (!text) return std::unexpected(text.error());
  KeyDeleteMessage message{};
  message.header = header(KeyValueOperation::Delete, pool);
  message.key_size = put_text(message.key, *text);
  // As long as the others: guests have one place for all of them.
  Bytes bytes = to_bytes(bytes_of(message));
  bytes.resize(sizeof(KeyEnumerateMessage));
  return bytes;
}

Bytes enumerate_message(KeyValuePool pool, std::uint32_t index) {
  KeyEnumerateMessage message{};
  message.header = header(KeyValueOperation::Enumerate, pool);
  message.index = index;
  message.item.type = KeyValueType::String;
  return to_bytes(bytes_of(message));
}

std::optional<KeyValueItem> parse_get_answer(std::span<const std::uint8_t> body) {
  const auto message = front_of<KeyValueMessage>(body);
  return message ? to_item(message->item) : std::nullopt;
}

std::optional<KeyValueItem> parse_enumerate_answer(std::span<const std::uint8_t> body) {
  const auto message = front_of<KeyEnumerateMessage>(body);
  return message ? to_item(message->item) : std::nullopt;
}

}  // namespace bulkhead::vsp::integration
