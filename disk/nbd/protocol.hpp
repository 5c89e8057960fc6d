// SPDX-License-Identifier: Apache-2.0
//
// The NBD protocol, as far as the server speaks it: fixed newstyle negotiation, simple replies
// (https://github.com/NetworkBlockDevice/nbd, doc/proto.md). All numbers are big-endian.
#pragma once

#include <cstdint>

#include "disk/byte_order.hpp"

namespace bulkhead::disk::nbd {

using U16 = BigEndian<std::uint16_t>;
using U32 = BigEndian<std::uint32_t>;
using U64 = BigEndian<std::uint64_t>;

constexpr std::uint64_t kGreeting = 0x4e42444d41474943;     // "NBDMAGIC"
constexpr std::uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
constexpr std::uint64_t kOptionReplyMagic = 0x0003e889045565a9;
constexpr std::uint32_t kRequestMagic = 0x25609513;
constexpr std::uint32_t kReplyMagic = 0x67446698;

constexpr std::uint16_t kFixedNewstyle = 1;
constexpr std::uint16_t kNoZeroes = 2;

enum class Option : std::uint32_t { export_name = 1, abort = 2, list = 3, info = 6, go = 7 };
enum class OptionReply : std::uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  unsupported = 0x80000001,
  invalid = 0x80000003,
  unknown = 0x80000006,
};
constexpr std::uint16_t kInfoExport = 0;
constexpr std::uint16_t kInfoBlockSize = 3;

enum class Command : std::uint16_t { read = 0, write = 1, disconnect = 2, flush = 3, trim = 4, write_zeroes = 6 };
constexpr std::uint16_t kCommandForceUnitAccess = 1;

constexpr std::uint16_t kHasFlags = 1;
constexpr std::uint16_t kReadOnly = 2;
constexpr std::uint16_t kSendFlush = 4;
constexpr std::uint16_t kSendForceUnitAccess = 8;
constexpr std::uint16_t kSendTrim = 32;
constexpr std::uint16_t kSendWriteZeroes = 64;
constexpr std::uint16_t kCanMultiConnection = 256;

enum class Status : std::uint32_t { ok = 0, not_permitted = 1, io = 5, invalid = 22, unsupported = 95 };

struct Greeting {
  U64 magic;
  U64 option_magic;
  U16 flags;
};
static_assert(sizeof(Greeting) == 18);
struct OptionHeader {
  U64 magic;
  U32 option;
  U32 length;
};
static_assert(sizeof(OptionHeader) == 16);
struct OptionReplyHeader {
  U64 magic;
  U32 option;
  U32 reply;
  U32 length;
};
static_assert(sizeof(OptionReplyHeader) == 20);
struct ExportInfo {
  U16 type;
  U64 size;
  U16 flags;
};
static_assert(sizeof(ExportInfo) == 12);
struct BlockSizeInfo {
  U16 type;
  U32 smallest;
  U32 preferred;
  U32 largest;
};
static_assert(sizeof(BlockSizeInfo) == 14);
struct Request {
  U32 magic;
  U16 flags;
  U16 command;
  U64 cookie;
  U64 offset;
  U32 length;
};
static_assert(sizeof(Request) == 28);
struct Reply {
  U32 magic;
  U32 status;
  U64 cookie;
};
static_assert(sizeof(Reply) == 16);

}  // namespace bulkhead::disk::nbd
