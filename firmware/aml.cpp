// SPDX-License-Identifier: Apache-2.0
#include "firmware/aml.hpp"

#include <cassert>

namespace bulkhead::firmware::aml {
namespace {

constexpr std::uint8_t kZeroOp = 0x00;
constexpr std::uint8_t kOneOp = 0x01;
constexpr std::uint8_t kNameOp = 0x08;
constexpr std::uint8_t kBytePrefix = 0x0a;
constexpr std::uint8_t kWordPrefix = 0x0b;
constexpr std::uint8_t kDoubleWordPrefix = 0x0c;
constexpr std::uint8_t kStringPrefix = 0x0d;
constexpr std::uint8_t kQuadWordPrefix = 0x0e;
constexpr std::uint8_t kScopeOp = 0x10;
constexpr std::uint8_t kBufferOp = 0x11;
constexpr std::uint8_t kPackageOp = 0x12;
constexpr std::uint8_t kExtendedPrefix = 0x5b;
constexpr std::uint8_t kDeviceOp = 0x82;

// PkgLength: counts itself. Bits 7..6 of the first byte: how many bytes follow; alone it holds 6 bits, else 4.
Bytes with_length(const Bytes& content) {
  ByteWriter writer;
  if (content.size() + 1 < 1u << 6) {
    writer.u8(content.size() + 1);
  } else {
    unsigned following = 1;
    while (content.size() + 1 + following >= std::size_t{1} << (4 + 8 * following)) ++following;
    const std::size_t length = content.size() + 1 + following;
    writer.u8(following << 6 | (length & 15));
    for (unsigned i = 0; i < following; ++i) writer.u8(length >> (4 + 8 * i) & 0xff);
  }
  return writer.bytes(content).content();
}

}  // namespace

Term integer(std::uint64_t value) {
  ByteWriter writer;
  if (value == 0) return writer.u8(kZeroOp).content();
  if (value == 1) return writer.u8(kOneOp).content();
  if (value <= 0xff) return writer.u8(kBytePrefix).u8(value).content();
  if (value <= 0xffff) return writer.u8(kWordPrefix).u16(value).content();
  if (value <= 0xffff'ffff) return writer.u8(kDoubleWordPrefix).u32(value).content();
  return writer.u8(kQuadWordPrefix).u64(value).content();
}

Term string(std::string_view text) { return ByteWriter().u8(kStringPrefix).text(text).u8(0).content(); }

Term eisa_id(std::string_view identifier) {
  assert(identifier.size() == 7);
  std::uint32_t value = 0;
  for (unsigned i = 0; i < 3; ++i) value = value << 5 | (static_cast<std::uint32_t>(identifier[i] - '@') & 31);
  for (unsigned i = 3; i < 7; ++i) {
    const char digit = identifier[i];
    value = value << 4 | static_cast<std::uint32_t>(digit <= '9' ? digit - '0' : digit - 'A' + 10);
  }
  // Compressed from the left, and so the most significant byte comes first.
  ByteWriter writer;
  writer.u8(kDoubleWordPrefix);
  for (int shift = 24; shift >= 0; shift -= 8) writer.u8(value >> shift & 0xff);
  return writer.content();
}

Term package(std::initializer_list<Term> elements) {
  ByteWriter content;
  content.u8(elements.size());
  for (const Term& element : elements) content.bytes(element);
  return ByteWriter().u8(kPackageOp).bytes(with_length(content.content())).content();
}

Term name(std::string_view segment, const Term& value) {
  return ByteWriter().u8(kNameOp).text(segment).bytes(value).content();
}

Term scope(std::string_view path, const Term& content) {
  return ByteWriter().u8(kScopeOp).bytes(with_length(ByteWriter().text(path).bytes(content).content())).content();
}

Term device(std::string_view segment, const Term& content) {
  assert(segment.size() == 4);
  const Bytes body = ByteWriter().text(segment).bytes(content).content();
  return ByteWriter().u8(kExtendedPrefix).u8(kDeviceOp).bytes(with_length(body)).content();
}

Term sequence(std::initializer_list<Term> terms) {
  ByteWriter writer;
  for (const Term& term : terms) writer.bytes(term);
  return writer.content();
}

Term resources(std::initializer_list<Bytes> descriptors) {
  ByteWriter list;
  for (const Bytes& descriptor : descriptors) list.bytes(descriptor);
  list.u8(0x79).u8(0);  // end tag, checksum not used
  const Bytes body = ByteWriter().bytes(integer(list.size())).bytes(list.content()).content();
  return ByteWriter().u8(kBufferOp).bytes(with_length(body)).content();
}

Bytes io_ports(std::uint16_t first, std::uint8_t count) {
  return ByteWriter().u8(0x47).u8(1).u16(first).u16(first).u8(1).u8(count).content();
}

// ACPI 6.5, "DWord Address Space Descriptor": a producer, both ends fixed, read and write.
Bytes memory_window(std::uint32_t first, std::uint32_t size) {
  constexpr std::uint8_t kDoubleWordAddressSpace = 0x87, kMemory = 0, kFixedEnds = 0x0c, kReadWrite = 1;
  ByteWriter writer;
  writer.u8(kDoubleWordAddressSpace).u16(23).u8(kMemory).u8(kFixedEnds).u8(kReadWrite);
  return writer.u32(0).u32(first).u32(first + size - 1).u32(0).u32(size).content();
}

Bytes irq(unsigned line) { return ByteWriter().u8(0x22).u16(1u << line).content(); }

}  // namespace bulkhead::firmware::aml
