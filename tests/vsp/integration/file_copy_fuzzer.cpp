// SPDX-License-Identifier: Apache-2.0
// See fuzz_service.hpp.
#include "tests/vsp/integration/fuzz_service.hpp"
#include "vsp/integration/file_copy.hpp"

using namespace bulkhead;
using namespace bulkhead::vsp::integration;

namespace {

/// Gives what is wanted when the input says so, and hears of one end for each copy that it did not cancel.
class Source final : public FileCopySource {
 public:
  explicit Source(Asked& asked) : asked_(asked) {}

  void act(FileCopy& service, fuzz::Input& input) {
    const std::uint8_t what = input.byte();
    switch (what % 4) {
      case 0: return begin(service, input);
      case 1: {
        const Bytes bytes(std::min<std::uint64_t>(what * 100ull, size_ - std::min(size_, offset_)), what);
        return service.feed(bytes);
      }
      case 2: return service.fail_source(Error("it is gone"));
      default: break;
    }
    service.cancel(*this);
    if (done_) std::exchange(done_, nullptr)({});
  }

 private:
  void begin(FileCopy& service, fuzz::Input& input) {
    const FileCopyRequest request{.folder = input.text(), .name = input.text(), .size = input.half()};
    if (!service.copy(request, *this)) return;
    fuzz::check(!done_);
    done_ = asked_.expect();
    size_ = request.size;
    offset_ = 0;
  }
  void want(std::uint64_t offset) override {
    fuzz::check(done_ && offset < size_);
    offset_ = offset;
  }
  void finished(Result<> result) override {
    fuzz::check(done_ != nullptr);
    std::exchange(done_, nullptr)(std::move(result));
  }

  Asked& asked_;
  std::function<void(Result<>)> done_;
  std::uint64_t size_ = 0;
  std::uint64_t offset_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FakeClock clock;
  Asked asked;
  FileCopy service(clock);
  Source source(asked);
  ServiceFuzz fuzz(clock, service, {{1, 1}}, asked, [&](fuzz::Input& input) { source.act(service, input); });
  fuzz.run({data, size});
  return 0;
}
