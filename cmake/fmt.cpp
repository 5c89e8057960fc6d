// SPDX-License-Identifier: Apache-2.0
//
// The compiled part of fmt, from its header. Debian has it as a shared library only, which would bring the shared C++ library, and the
// dynamic linker's work for it, into the start of every machine's worker.
#include <fmt/format-inl.h>

FMT_BEGIN_NAMESPACE
namespace detail {
template auto thousands_sep_impl<char>(locale_ref) -> thousands_sep_result<char>;
template auto decimal_point_impl(locale_ref) -> char;
template void buffer<char>::append(const char*, const char*);
}  // namespace detail
FMT_END_NAMESPACE
