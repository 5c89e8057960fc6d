// SPDX-License-Identifier: Apache-2.0
//
// Registers by their TLFS names, checked so that VMRUN accepts them: APM volume 2, section 15.5.1, "Canonicalization and
// Consistency Checks".
#include <cstring>

#include "hypervisor/processor/privileged.hpp"
#include "hypervisor/svm/svm.hpp"
#include "hypervisor/svm/svm_vp.hpp"

namespace bulkhead::hypervisor::svm {
namespace {

using abi::RegisterName;
using abi::RegisterValue;

constexpr std::uint64_t kCr0ProtectionEnable = 1, kCr0Paging = 1ull << 31, kCr0NotWriteThrough = 1ull << 29,
                        kCr0CacheDisable = 1ull << 30;
constexpr std::uint64_t kCr0Valid = 0xe005003f;
constexpr std::uint64_t kCr0Extension = 1ull << 4;
constexpr std::uint64_t kCr4PhysicalAddressExtension = 1ull << 5;
// VME to OSXMMEXCPT, UMIP, LA57, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP, PKE.
constexpr std::uint64_t kCr4Valid =
    0x7ff | (1u << 11) | (1u << 12) | (1u << 16) | (1u << 17) | (1u << 18) | (1u << 20) | (1u << 21) | (1u << 22);
constexpr std::uint64_t kEferSyscall = 1u << 0, kEferLongMode = 1u << 8, kEferLongModeActive = 1u << 10,
                        kEferNoExecute = 1u << 11, kEferFastSave = 1u << 14;
constexpr std::uint64_t kEferValid =
    kEferSyscall | kEferLongMode | kEferLongModeActive | kEferNoExecute | kEferFastSave;
constexpr std::uint64_t kPowerUpPat = 0x0007040600070406;
constexpr std::uint32_t kMsrTscAux = 0xc0000103;

// The legacy region of an XSAVE area, and its header: APM volume 2, section 11.5.
constexpr std::size_t kFpuControl = 0, kMxcsr = 24, kSt0 = 32, kXmm0 = 160, kXsaveHeader = 512;
constexpr std::uint16_t kPowerUpFpuControl = 0x37f;
constexpr std::uint32_t kPowerUpMxcsr = 0x1f80;
constexpr std::uint32_t kMxcsrValid = 0xffff;

bool is_canonical(std::uint64_t address) {
  const auto sign = static_cast<std::int64_t>(address) >> 47;
  return sign == 0 || sign == -1;
}

bool is_valid_pat(std::uint64_t value) {
  for (unsigned shift = 0; shift < 64; shift += 8) {
    const unsigned type = (value >> shift) & 0xff;
    if (type > 7 || type == 2 || type == 3) return false;
  }
  return true;
}

constexpr VmcbSegment kDataAtReset{0, 0x93, 0xffff, 0};

}  // namespace

void SvmVp::store_guest() const {
  if (loaded_) asm volatile("vmsave %0" : : "a"(vmcb_address_) : "memory");
}
void SvmVp::load_guest() const {
  if (loaded_) asm volatile("vmload %0" : : "a"(vmcb_address_) : "memory");
}

void SvmVp::stay_loaded() {
  loaded_ = true;
  load_guest();
}

void SvmVp::reset(bool init) {
  store_guest();
  for (std::uint64_t& value : general) value = 0;
  general[2] = 0x600;  // RDX: family 6
  rip = 0xfff0;
  rflags = 2;
  cr8 = 0;
  interrupt_shadow = false;
  nmi_masked = false;
  stepping_over_iret_ = false;
  event = {};
  request_interrupt_window(0);
  nmi_window_ = false;
  vmcb_.intercepts1 &= ~kInterceptIret;
  set_exception_intercepts(exceptions_);

  // INIT leaves CD and NW as they are.
  vmcb_.cr0 = (init ? vmcb_.cr0 & (kCr0CacheDisable | kCr0NotWriteThrough) : kCr0CacheDisable | kCr0NotWriteThrough) |
              kCr0Extension;
  vmcb_.cr2 = 0;
  vmcb_.cr3 = 0;
  vmcb_.cr4 = 0;
  vmcb_.efer = kEferSvm;
  vmcb_.dr6 = 0xffff0ff0;
  vmcb_.dr7 = 0x400;
  vmcb_.cpl = 0;
  vmcb_.cs = {0xf000, 0x9b, 0xffff, 0xffff0000};
  vmcb_.es = vmcb_.ss = vmcb_.ds = vmcb_.fs = vmcb_.gs = kDataAtReset;
  vmcb_.gdtr = vmcb_.idtr = {0, 0, 0xffff, 0};
  vmcb_.ldtr = {0, 0x82, 0xffff, 0};
  vmcb_.tr = {0, 0x8b, 0xffff, 0};
  for (std::uint64_t& value : debug_) value = 0;
  flush_tlb();
  if (!init) reset_model_specific();
  load_guest();
}

void SvmVp::mask_nmi(bool masked) {
  nmi_masked = masked;
  // Of an IRET that was being stepped over, RIP is still at it.
  stepping_over_iret_ = false;
  vmcb_.intercepts1 = masked ? vmcb_.intercepts1 | kInterceptIret : vmcb_.intercepts1 & ~kInterceptIret;
  set_exception_intercepts(exceptions_);
}

/// What INIT keeps.
void SvmVp::reset_model_specific() {
  vmcb_.pat = kPowerUpPat;
  vmcb_.star = vmcb_.lstar = vmcb_.cstar = vmcb_.sfmask = vmcb_.kernel_gs_base = 0;
  vmcb_.sysenter_cs = vmcb_.sysenter_esp = vmcb_.sysenter_eip = 0;
  vmcb_.debug_control = 0;
  tsc_aux_ = 0;
  xcr0_ = 1;
  std::memset(extended_state_, 0, kExtendedStateSize);
  std::memcpy(extended_state_ + kFpuControl, &kPowerUpFpuControl, sizeof kPowerUpFpuControl);
  std::memcpy(extended_state_ + kMxcsr, &kPowerUpMxcsr, sizeof kPowerUpMxcsr);
  extended_state_[kXsaveHeader] = std::byte{3};  // x87 and SSE are in the area
}

/// Those that are one number without rules of its own, or with canonical addresses at most.
std::uint64_t* SvmVp::plain_register(RegisterName name) const {
  switch (name) {
    case RegisterName::Cr2: return &vmcb_.cr2;
    case RegisterName::KernelGsBase: return &vmcb_.kernel_gs_base;
    case RegisterName::SysenterCs: return &vmcb_.sysenter_cs;
    case RegisterName::SysenterEip: return &vmcb_.sysenter_eip;
    case RegisterName::SysenterEsp: return &vmcb_.sysenter_esp;
    case RegisterName::Star: return &vmcb_.star;
    case RegisterName::Lstar: return &vmcb_.lstar;
    case RegisterName::Cstar: return &vmcb_.cstar;
    case RegisterName::Sfmask: return &vmcb_.sfmask;
    default: return nullptr;
  }
}

VmcbSegment* SvmVp::segment_register(RegisterName name) const {
  switch (name) {
    case RegisterName::Es: return &vmcb_.es;
    case RegisterName::Cs: return &vmcb_.cs;
    case RegisterName::Ss: return &vmcb_.ss;
    case RegisterName::Ds: return &vmcb_.ds;
    case RegisterName::Fs: return &vmcb_.fs;
    case RegisterName::Gs: return &vmcb_.gs;
    case RegisterName::Ldtr: return &vmcb_.ldtr;
    case RegisterName::Tr: return &vmcb_.tr;
    default: return nullptr;
  }
}

std::byte* SvmVp::fpu_register(RegisterName name, std::size_t& size) const {
  const auto code = static_cast<std::uint32_t>(name);
  const auto xmm0 = static_cast<std::uint32_t>(RegisterName::Xmm0);
  const auto st0 = static_cast<std::uint32_t>(RegisterName::FpMmx0);
  size = 16;
  if (code >= xmm0 && code < xmm0 + 16) return extended_state_ + kXmm0 + (code - xmm0) * 16;
  if (code >= st0 && code < st0 + 8) return extended_state_ + kSt0 + (code - st0) * 16;
  if (name == RegisterName::FpControlStatus) return extended_state_ + kFpuControl;
  if (name == RegisterName::XmmControlStatus) {
    size = 8;
    return extended_state_ + kMxcsr;
  }
  return nullptr;
}

std::expected<RegisterValue, hv_status> SvmVp::get_register(RegisterName name) const {
  if (const std::uint64_t* value = plain_register(name)) {
    store_guest();
    return numeric(*value);
  }
  if (const VmcbSegment* segment = segment_register(name)) {
    if (name >= RegisterName::Fs) store_guest();
    RegisterValue result{.segment = {segment->base, segment->limit, segment->selector, from_vmcb(segment->attributes)}};
    // The processor keeps the privilege level beside it, and the two may differ: in virtual 8086 mode they do.
    if (name == RegisterName::Ss) {
      result.segment.attributes = static_cast<std::uint16_t>((result.segment.attributes & ~0x60u) | vmcb_.cpl << 5);
    }
    return result;
  }
  std::size_t size = 0;
  if (const std::byte* bytes = fpu_register(name, size)) {
    fetch_extended_state();
    RegisterValue result{};
    std::memcpy(&result, bytes, size);
    return result;
  }
  switch (name) {
    case RegisterName::Cr0: return numeric(vmcb_.cr0);
    case RegisterName::Cr3: return numeric(vmcb_.cr3);
    case RegisterName::Cr4: return numeric(vmcb_.cr4);
    case RegisterName::Efer: return numeric(vmcb_.efer & ~kEferSvm);
    case RegisterName::Dr6: return numeric(vmcb_.dr6);
    case RegisterName::Dr7: return numeric(vmcb_.dr7);
    case RegisterName::Pat: return numeric(vmcb_.pat);
    case RegisterName::Xfem: return numeric(loaded_ && features.xsave ? privileged::read_xcr0() : xcr0_);
    case RegisterName::TscAux:
      return numeric(loaded_ && features.tsc_aux ? privileged::read_msr(kMsrTscAux) : tsc_aux_);
    case RegisterName::Gdtr:
    case RegisterName::Idtr: {
      const VmcbSegment& table = name == RegisterName::Gdtr ? vmcb_.gdtr : vmcb_.idtr;
      return RegisterValue{.table = {{}, static_cast<std::uint16_t>(table.limit), table.base}};
    }
    case RegisterName::Dr0:
    case RegisterName::Dr1:
    case RegisterName::Dr2:
    case RegisterName::Dr3: return numeric(debug_register(static_cast<unsigned>(name) & 3));
    default: return std::unexpected(HV_STATUS_UNKNOWN_REGISTER_NAME);
  }
}

void SvmVp::publish(abi::RegisterPage& page) const {
  store_guest();
  const VmcbSegment* segments[] = {&vmcb_.es, &vmcb_.cs, &vmcb_.ss, &vmcb_.ds, &vmcb_.fs, &vmcb_.gs};
  for (unsigned index = 0; index < 6; ++index) {
    const VmcbSegment& segment = *segments[index];
    page.segments[index] = {segment.base, segment.limit, segment.selector, from_vmcb(segment.attributes)};
  }
  page.cr0 = vmcb_.cr0;
  page.cr3 = vmcb_.cr3;
  page.cr4 = vmcb_.cr4;
  page.efer = vmcb_.efer & ~kEferSvm;
  page.dr7 = vmcb_.dr7;
  page.xfem = xcr0_;
}

/// The processor derives EFER.LMA; VMRUN wants to see it derived.
void SvmVp::update_long_mode() {
  const bool active = (vmcb_.efer & kEferLongMode) && (vmcb_.cr0 & kCr0Paging);
  vmcb_.efer = (vmcb_.efer & ~kEferLongModeActive) | (active ? kEferLongModeActive : 0) | kEferSvm;
}

hv_status SvmVp::set_register(RegisterName name, const RegisterValue& value) {
  const std::uint64_t v = value.number;
  if (std::uint64_t* target = plain_register(name)) {
    const bool address = name != RegisterName::Cr2 && name != RegisterName::Star && name != RegisterName::Sfmask &&
                         name != RegisterName::SysenterCs;
    if (address && !is_canonical(v)) return HV_STATUS_INVALID_REGISTER_VALUE;
    store_guest();
    *target = v;
    load_guest();
    return HV_STATUS_SUCCESS;
  }
  if (VmcbSegment* segment = segment_register(name)) {
    if (name >= RegisterName::Fs) store_guest();
    *segment = {value.segment.selector, to_vmcb(value.segment.attributes), value.segment.limit, value.segment.base};
    if (name >= RegisterName::Fs) load_guest();
    if (name == RegisterName::Ss) vmcb_.cpl = (value.segment.attributes >> 5) & 3;
    return HV_STATUS_SUCCESS;
  }
  std::size_t size = 0;
  if (std::byte* bytes = fpu_register(name, size)) {
    RegisterValue checked = value;
    if (name == RegisterName::XmmControlStatus) checked.raw.low &= kMxcsrValid | ~std::uint64_t{0xffffffff};
    fetch_extended_state();
    std::memcpy(bytes, &checked, size);
    extended_state_[kXsaveHeader] |= std::byte{3};
    return_extended_state();
    return HV_STATUS_SUCCESS;
  }
  switch (name) {
    case RegisterName::Cr0:
      if ((v & ~kCr0Valid) || ((v & kCr0Paging) && !(v & kCr0ProtectionEnable)) ||
          ((v & kCr0NotWriteThrough) && !(v & kCr0CacheDisable)) ||
          ((v & kCr0Paging) && (vmcb_.efer & kEferLongMode) && !(vmcb_.cr4 & kCr4PhysicalAddressExtension))) {
        return HV_STATUS_INVALID_REGISTER_VALUE;
      }
      vmcb_.cr0 = v | kCr0Extension;
      update_long_mode();
      flush_tlb();
      return HV_STATUS_SUCCESS;
    case RegisterName::Cr3:
      vmcb_.cr3 = v;
      flush_tlb();
      return HV_STATUS_SUCCESS;
    case RegisterName::Cr4:
      if ((v & ~kCr4Valid) || ((vmcb_.efer & kEferLongModeActive) && !(v & kCr4PhysicalAddressExtension))) {
        return HV_STATUS_INVALID_REGISTER_VALUE;
      }
      vmcb_.cr4 = v;
      flush_tlb();
      return HV_STATUS_SUCCESS;
    case RegisterName::Efer:
      if (v & ~kEferValid) return HV_STATUS_INVALID_REGISTER_VALUE;
      vmcb_.efer = v;
      update_long_mode();
      flush_tlb();
      return HV_STATUS_SUCCESS;
    case RegisterName::Dr6:
    case RegisterName::Dr7:
      if (v >> 32) return HV_STATUS_INVALID_REGISTER_VALUE;
      (name == RegisterName::Dr6 ? vmcb_.dr6 : vmcb_.dr7) = v;
      return HV_STATUS_SUCCESS;
    case RegisterName::Dr0:
    case RegisterName::Dr1:
    case RegisterName::Dr2:
    case RegisterName::Dr3: set_debug_register(static_cast<unsigned>(name) & 3, v); return HV_STATUS_SUCCESS;
    case RegisterName::Pat:
      if (!is_valid_pat(v)) return HV_STATUS_INVALID_REGISTER_VALUE;
      vmcb_.pat = v;
      return HV_STATUS_SUCCESS;
    case RegisterName::Xfem:
      if (!(v & 1) || (v & ~(features.xsave ? features.xcr0 : 1)) || ((v & 4) && !(v & 2)) ||
          ((v & 0xe0) && (v & 0xe6) != 0xe6)) {
        return HV_STATUS_INVALID_REGISTER_VALUE;
      }
      xcr0_ = v;
      if (loaded_ && features.xsave) privileged::write_xcr0(v);
      return HV_STATUS_SUCCESS;
    case RegisterName::TscAux:
      if (v >> 32) return HV_STATUS_INVALID_REGISTER_VALUE;
      tsc_aux_ = v;
      if (loaded_ && features.tsc_aux) privileged::write_msr(kMsrTscAux, v);
      return HV_STATUS_SUCCESS;
    case RegisterName::Gdtr:
    case RegisterName::Idtr: {
      if (!is_canonical(value.table.base)) return HV_STATUS_INVALID_REGISTER_VALUE;
      VmcbSegment& table = name == RegisterName::Gdtr ? vmcb_.gdtr : vmcb_.idtr;
      table = {0, 0, value.table.limit, value.table.base};
      return HV_STATUS_SUCCESS;
    }
    default: return HV_STATUS_UNKNOWN_REGISTER_NAME;
  }
}

}  // namespace bulkhead::hypervisor::svm
