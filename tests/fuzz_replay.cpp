// SPDX-License-Identifier: Apache-2.0
//
// replay_NAME DIRECTORY: gives a fuzzer each file of a directory once, in a program that is built without libFuzzer.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int count, char** values) {
  int tried = 0;
  for (const auto& entry : std::filesystem::directory_iterator(count > 1 ? values[1] : ".")) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    std::printf("%s\n", entry.path().c_str());
    std::fflush(stdout);  // should it crash, this was the one
    LLVMFuzzerTestOneInput(static_cast<const std::uint8_t*>(static_cast<const void*>(bytes.data())), bytes.size());
    ++tried;
  }
  return tried > 0 ? 0 : 1;
}
