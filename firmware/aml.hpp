// SPDX-License-Identifier: Apache-2.0
//
// Builds ACPI Machine Language (ACPI 6.5, section 20): each function gives the bytes of one object, and larger objects
// are made of smaller ones:
//
//   aml::scope("\\_SB_", {aml::device("COM1", {aml::name("_HID", aml::eisa_id("PNP0501")),
//                                              aml::name("_CRS", aml::resources({aml::io_ports(0x3f8, 8),
//                                                                                aml::irq(4)}))})})
#pragma once

#include <initializer_list>
#include <string_view>

#include "firmware/byte_writer.hpp"

namespace bulkhead::firmware::aml {

/// The bytes of one or more complete objects, one after the other.
using Term = Bytes;

Term integer(std::uint64_t value);
Term string(std::string_view text);
/// A compressed identifier of three letters and four hexadecimal digits, e.g. "PNP0501".
Term eisa_id(std::string_view identifier);
Term package(std::initializer_list<Term> elements);

/// `segment` is four characters; the root is "\\" in front of it.
Term name(std::string_view segment, const Term& value);
Term scope(std::string_view path, const Term& content);
Term device(std::string_view segment, const Term& content);
Term sequence(std::initializer_list<Term> terms);

/// A resource template of the descriptors, with its end tag.
Term resources(std::initializer_list<Bytes> descriptors);
/// Small descriptor: `count` ports from `first`.
Bytes io_ports(std::uint16_t first, std::uint8_t count);
/// Large descriptor: addresses below 4 GiB, multiples of 4096, that the device hands on to those below it.
Bytes memory_window(std::uint32_t first, std::uint32_t size);
/// Small descriptor: an ISA interrupt, edge-triggered and active high.
Bytes irq(unsigned line);

}  // namespace bulkhead::firmware::aml
