// SPDX-License-Identifier: Apache-2.0
#include "error/error.hpp"

#include <system_error>

namespace bulkhead {

Error Error::from_errno(std::string_view attempt, int number) {
  return Error(std::string(attempt) + ": " + std::generic_category().message(number), number);
}

}  // namespace bulkhead
