// An mps device for Linux. Tensors carry the label "mps" and calls take the dispatcher's MPS paths, as on a Mac, but
// their memory is the CPU's and CPU kernels compute on it. What a Mac refuses is refused here: an operation without an
// MPS kernel, float64, a CPU tensor among mps tensors.
//
// What this shows: which operations run, in which order, how many, and where the host waits for the device. What it
// cannot show: any number that Metal computes, its speed, or its memory. emulation.py builds and loads this file.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/detail/MPSHooksInterface.h>
#include <ATen/ops/_fused_rms_norm.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/linear_backward_native.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rms_norm_compositeimplicitautograd_dispatch.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

using at::IntArrayRef;
using at::Tensor;
using c10::DispatchKey;
using c10::IValue;
using c10::ScalarType;
using c10::Storage;

const c10::Device kMps(c10::DeviceType::MPS, 0);
const c10::Device kCpu(c10::DeviceType::CPU);

// 1. The device: one of them, with one stream, whose memory comes from the CPU's allocator.

struct Guard final : c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::MPS> {
  c10::Device exchangeDevice(c10::Device) const override { return kMps; }
  c10::Device getDevice() const override { return kMps; }
  c10::Stream getStream(c10::Device) const noexcept override { return c10::Stream(c10::Stream::DEFAULT, kMps); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return c10::Stream(c10::Stream::DEFAULT, kMps); }
};
C10_REGISTER_GUARD_IMPL(MPS, Guard)

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    auto memory = c10::GetCPUAllocator()->allocate(bytes);
    void* data = memory.get();
    auto free = memory.get_deleter();
    return c10::DataPtr(data, memory.release_context(), free, kMps);
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
} allocator;

struct MPSHooks : public at::MPSHooksInterface {
  void init() const override {}
  bool hasMPS() const override { return true; }
  bool isAvailable() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isOnMacOSorNewer(unsigned, unsigned) const override { return true; }
  bool hasPrimaryContext(at::DeviceIndex) const override { return true; }
  at::DeviceIndex deviceCount() const override { return 1; }
  at::DeviceIndex getCurrentDevice() const override { return 0; }
  const at::Generator& getDefaultGenerator(at::DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();
  }
  at::Generator getNewGenerator(at::DeviceIndex) const override { return at::detail::createCPUGenerator(); }
  c10::Allocator* getMPSDeviceAllocator() const override { return &allocator; }
  void deviceSynchronize() const override {}
  void emptyCache() const override {}
  size_t getCurrentAllocatedMemory() const override { return 0; }
  size_t getDriverAllocatedMemory() const override { return 0; }
  size_t getRecommendedMaxMemory() const override { return size_t(8) << 30; }
};

// 2. One piece of memory under two labels: what the CPU kernels see, and what the caller sees.

void release(void* storage) { delete static_cast<Storage*>(storage); }

Tensor relabelled(const Tensor& t, c10::Device device, c10::Allocator* allocator, DispatchKey key) {
  const Storage& storage = t.storage();
  c10::DataPtr data(storage.mutable_data(), new Storage(storage), &release, device);  // keeps the original alive
  Storage alias(c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), storage.nbytes(), std::move(data), allocator, true));
  auto result = at::detail::make_tensor<c10::TensorImpl>(std::move(alias), c10::DispatchKeySet(key), t.dtype());
  result.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
  return result;
}

Tensor as_cpu(const Tensor& t) { return relabelled(t, kCpu, c10::GetCPUAllocator(), DispatchKey::CPU); }
Tensor as_mps(const Tensor& t) { return relabelled(t, kMps, &allocator, DispatchKey::MPS); }

bool on_mps(const Tensor& t) { return t.defined() && t.device().type() == c10::DeviceType::MPS; }

// 3. What is allowed, what is recorded, what is broken on purpose. Set from Python.

struct Fault {
  double factor;
  bool only_for_views;  // a kernel that is right for contiguous inputs only: the kind of fault published most often
};

std::mutex mutex;
std::set<std::string> allowed;
std::map<std::string, Fault> faults;
bool recording = false;
std::vector<std::string> recorded;

// kind: "kernel"; "view", which moves nothing; "to device"; and "to host", where the host waits for the device.
// `bytes`: of all tensors that it reads or writes, each once.
void record(const std::string& kind, const std::string& name, const std::string& dtypes, size_t bytes = 0) {
  std::lock_guard<std::mutex> lock(mutex);
  if (recording) recorded.push_back(kind + "\t" + name + "\t" + dtypes + "\t" + std::to_string(bytes));
}

void check_dtype(ScalarType dtype, const std::string& name) {
  TORCH_CHECK_TYPE(
      dtype != at::kDouble && dtype != at::kComplexDouble,
      "Cannot convert a MPS Tensor to ", dtype, ": the MPS framework does not have it (in ", name, ", emulated)");
}

void check_allowed(const std::string& name) {
  std::lock_guard<std::mutex> lock(mutex);
  TORCH_CHECK_NOT_IMPLEMENTED(
      allowed.count(name), "The operator 'aten::", name, "' is not currently implemented for the MPS device (emulated)");
}

bool begins_with(const std::string& text, const char* start) { return text.rfind(start, 0) == 0; }

// The host must know the result, or its size, before it can go on.
bool makes_host_wait(const std::string& name) {
  static const std::set<std::string> names{"nonzero", "masked_select", "equal", "_unique2"};
  return names.count(name);
}

void corrupt(const std::string& name, bool strided, const Tensor& result) {
  std::lock_guard<std::mutex> lock(mutex);
  const auto fault = faults.find(name);
  if (fault == faults.end() || !at::isFloatingType(result.scalar_type())) return;
  if (strided || !fault->second.only_for_views) result.mul_(fault->second.factor);
}

// 4. Any operation: the same operation on the same memory under the CPU's label.

class Call {
 public:
  Call(const c10::OperatorHandle& operation, torch::jit::Stack& stack)
      : operation_(operation), schema_(operation.schema()), stack_(stack) {
    name_ = schema_.operator_name().name.substr(6);  // without "aten::"
    base_name_ = name_.substr(0, name_.find_last_not_of('_') + 1);
    if (!schema_.overload_name().empty()) name_ += "." + schema_.overload_name();
  }

  void run() {
    check_allowed(name_);
    const size_t first = stack_.size() - schema_.arguments().size();
    for (size_t i = 0; i < schema_.arguments().size(); ++i) take(schema_.arguments()[i], stack_[first + i]);
    const std::string what = kind();
    operation_.callBoxed(&stack_);
    for (Argument& argument : tensors_) {
      if (argument.written && on_mps(argument.given)) follow(argument);
    }
    for (size_t i = stack_.size() - schema_.returns().size(); i < stack_.size(); ++i) give(stack_[i]);
    record(what, name_, dtypes_, bytes_);
  }

 private:
  struct Argument {
    Tensor given, cpu;
    bool written;
  };

  bool is_copy() const { return name_ == "copy_"; }

  void take(const c10::Argument& argument, IValue& value) {
    const bool written = argument.alias_info() && argument.alias_info()->isWrite();
    if (value.isTensor()) {
      value = take(value.toTensor(), written);
    } else if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor t : value.toTensorList()) list.push_back(take(t, written));
      value = list;
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> list;
      for (const IValue& item : value.toListRef()) {
        list.push_back(item.isNone() ? std::nullopt : std::make_optional(take(item.toTensor(), written)));
      }
      value = list;
    } else if (value.isDevice()) {
      value = kCpu;
    } else if (value.isInt() && argument.name() == "dtype") {
      check_dtype(static_cast<ScalarType>(value.toInt()), name_);
    }
  }

  Tensor take(const Tensor& t, bool written) {
    if (!t.defined()) return t;
    if (on_mps(t)) {
      check_dtype(t.scalar_type(), name_);
      dtypes_ += (dtypes_.empty() ? "" : ", ") + std::string(c10::toString(t.scalar_type()));
      strided_ |= !t.is_contiguous();
      bytes_ += t.nbytes();
    } else {
      check_stranger(t, written);
    }
    tensors_.push_back({t, on_mps(t) ? as_cpu(t) : t, written});
    return tensors_.back().cpu;
  }

  // Where a Mac takes a CPU tensor beside an mps tensor: numbers, indices, and either end of a copy. But a copy to the
  // CPU converts on the device, which has no float64.
  void check_stranger(const Tensor& t, bool written) const {
    if (is_copy() && written) check_dtype(t.scalar_type(), name_);
    const bool takes_indices = begins_with(name_, "index.Tensor") || begins_with(name_, "_index_put_impl_");
    TORCH_CHECK(t.dim() == 0 || is_copy() || takes_indices, "Passed CPU tensor to MPS op (", name_, ", emulated)");
  }

  std::string kind() const {
    if (is_copy() && !on_mps(tensors_[0].given)) return "to host";
    if (is_copy() && !on_mps(tensors_[1].given)) return "to device";
    if (makes_host_wait(name_)) return "to host";
    const auto& returns = schema_.returns();
    const auto* alias = returns.empty() ? nullptr : returns[0].alias_info();
    return alias && !alias->isWrite() ? "view" : "kernel";
  }

  // An argument that was written into may have been given another shape, and with it other memory.
  void follow(const Argument& argument) const {
    auto* given = argument.given.unsafeGetTensorImpl();
    const Tensor& cpu = argument.cpu;
    if (cpu.storage().data() != argument.given.storage().data() || cpu.storage().nbytes() > given->storage().nbytes()) {
      given->set_storage_keep_dtype(as_mps(cpu).storage());
    }
    if (cpu.sizes() != given->sizes() || cpu.strides() != given->strides()) {
      given->set_sizes_and_strides(cpu.sizes(), cpu.strides(), cpu.storage_offset());
    }
  }

  void give(IValue& value) {
    if (value.isTensor()) {
      value = give(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<Tensor> list;
      for (const Tensor t : value.toTensorList()) list.push_back(give(t));
      value = list;
    }
  }

  Tensor give(const Tensor& result) {
    if (!result.defined()) return result;
    for (const Argument& argument : tensors_) {
      if (!argument.cpu.defined()) continue;
      if (argument.cpu.is_same(result)) {
        corrupt(base_name_, strided_, result);
        return argument.given;
      }
      if (on_mps(argument.given) && result.storage().is_alias_of(argument.cpu.storage())) {
        Tensor view = at::detail::make_tensor<c10::TensorImpl>(
            c10::TensorImpl::VIEW, Storage(argument.given.storage()), argument.given.key_set(), result.dtype());
        view.unsafeGetTensorImpl()->set_sizes_and_strides(result.sizes(), result.strides(), result.storage_offset());
        return view;
      }
    }
    check_dtype(result.scalar_type(), name_);
    corrupt(base_name_, strided_, result);
    bytes_ += result.nbytes();
    return as_mps(result);
  }

  const c10::OperatorHandle& operation_;
  const c10::FunctionSchema& schema_;
  torch::jit::Stack& stack_;
  std::string name_, base_name_, dtypes_;
  std::vector<Argument> tensors_;
  bool strided_ = false;
  size_t bytes_ = 0;
};

void run_on_cpu(const c10::OperatorHandle& operation, torch::jit::Stack* stack) { Call(operation, *stack).run(); }

TORCH_LIBRARY_IMPL(_, MPS, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
}

// 5. Operations that are about memory, and cannot be left to a CPU kernel.

Tensor empty(
    IntArrayRef sizes, std::optional<ScalarType> dtype, std::optional<c10::Layout>, std::optional<c10::Device>,
    std::optional<bool>, std::optional<c10::MemoryFormat> format) {
  check_dtype(c10::dtype_or_default(dtype), "empty");
  return at::detail::empty_generic(
      sizes, &allocator, c10::DispatchKeySet(DispatchKey::MPS), c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(
    IntArrayRef sizes, IntArrayRef strides, std::optional<ScalarType> dtype, std::optional<c10::Layout>,
    std::optional<c10::Device>, std::optional<bool>) {
  check_dtype(c10::dtype_or_default(dtype), "empty_strided");
  return at::detail::empty_strided_generic(
      sizes, strides, &allocator, c10::DispatchKeySet(DispatchKey::MPS), c10::dtype_or_default(dtype));
}

at::Scalar local_scalar_dense(const Tensor& t) {
  record("to host", "_local_scalar_dense", c10::toString(t.scalar_type()));
  return at::_local_scalar_dense(as_cpu(t));
}

Tensor& set_storage(Tensor& self, Storage storage, int64_t offset, IntArrayRef sizes, IntArrayRef strides) {
  auto* self_ = self.unsafeGetTensorImpl();
  self_->set_storage_keep_dtype(std::move(storage));
  if (strides.size() == sizes.size()) {
    self_->set_sizes_and_strides(sizes, strides, offset);
  } else {
    self_->set_sizes_contiguous(sizes);
    self_->set_storage_offset(offset);
  }
  return self;
}

Tensor& set_whole_storage(Tensor& self, Storage storage) {
  const int64_t length = storage.nbytes() / self.dtype().itemsize();
  return set_storage(self, std::move(storage), 0, {length}, {});
}

// 6. Operations whose way through the dispatcher is another on a Mac, whose libraries are compiled for it.

// One kernel where no gradient is wanted; else the composite of several, because the kernel has no backward.
Tensor rms_norm(
    const Tensor& input, c10::SymIntArrayRef shape, const std::optional<Tensor>& weight, std::optional<double> eps) {
  const bool is_traced = input.key_set().has(DispatchKey::Python);  // by torch.compile: there are no numbers in it
  const bool fused = !is_traced && weight.has_value() && weight->defined() &&
      weight->scalar_type() == input.scalar_type() &&
      !(at::GradMode::is_enabled() && (input.requires_grad() || weight->requires_grad()));
  if (!fused) return at::compositeimplicitautograd::rms_norm_symint(input, shape, weight, eps);
  const size_t bytes = 2 * input.nbytes() + weight->nbytes();
  record("kernel", "_fused_rms_norm", c10::toString(input.scalar_type()), bytes);
  at::AutoDispatchBelowAutograd below;
  const auto lengths = C10_AS_INTARRAYREF_SLOW(shape);
  const Tensor x = as_cpu(input.contiguous()), w = as_cpu(*weight);
  const Tensor y = std::get<0>(at::_fused_rms_norm(x, lengths, w, eps));
  corrupt("_fused_rms_norm", !input.is_contiguous(), y);
  return as_mps(y);
}

std::tuple<Tensor, Tensor, Tensor> linear_backward(
    const Tensor& input, const Tensor& gradient, const Tensor& weight, std::array<bool, 3> wanted) {
  record("kernel", "linear_backward", c10::toString(input.scalar_type()));
  const Tensor w = as_cpu(weight), x = as_cpu(input).reshape({-1, w.size(1)});
  const Tensor dy = as_cpu(gradient).reshape({-1, w.size(0)});
  Tensor dx, dw, db;
  if (wanted[0]) dx = as_mps(dy.mm(w).reshape(input.sizes()));
  if (wanted[1]) dw = as_mps(dy.t().mm(x));
  if (wanted[2]) db = as_mps(dy.sum(0));
  return {dx, dw, db};
}

TORCH_LIBRARY_IMPL(aten, MPS, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("_local_scalar_dense", &local_scalar_dense);
  library.impl("set_.source_Storage_storage_offset", &set_storage);
  library.impl("set_.source_Storage", &set_whole_storage);
  library.impl("rms_norm", &rms_norm);
  library.impl("linear_backward", &linear_backward);
}

TORCH_LIBRARY_IMPL(aten, AutogradMPS, library) { library.impl("rms_norm", &rms_norm); }

// 7. The controls, for Python.

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

void allow(std::string names) {
  std::lock_guard<std::mutex> lock(mutex);
  for (const auto& name : words(names)) allowed.insert(name);
}

// Composite operations for which the release has an MPS kernel of its own: take it whole, as a Mac does.
void keep_whole(std::string names) {
  static torch::Library library(torch::Library::IMPL, "aten", DispatchKey::MPS, __FILE__, __LINE__);
  for (const auto& name : words(names)) {
    library.impl(name.c_str(), torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
  }
}

void start_recording() {
  std::lock_guard<std::mutex> lock(mutex);
  recording = true;
  recorded.clear();
}

std::vector<std::string> stop_recording() {
  std::lock_guard<std::mutex> lock(mutex);
  recording = false;
  return std::move(recorded);
}

// A kernel that is run from outside of the dispatcher.
void note_kernel(std::string name, int64_t bytes) { record("kernel", name, "", bytes); }

void plant_fault(std::string operation, double factor, bool only_for_views) {
  std::lock_guard<std::mutex> lock(mutex);
  faults[operation] = {factor, only_for_views};
}

void remove_faults() {
  std::lock_guard<std::mutex> lock(mutex);
  faults.clear();
}

TORCH_LIBRARY(emulated_mps, library) {
  library.def("allow(str names) -> ()", &allow);
  library.def("keep_whole(str names) -> ()", &keep_whole);
  library.def("start_recording() -> ()", &start_recording);
  library.def("stop_recording() -> str[]", &stop_recording);
  library.def("note_kernel(str name, int bytes) -> ()", &note_kernel);
  library.def("plant_fault(str operation, float factor, bool only_for_views) -> ()", &plant_fault);
  library.def("remove_faults() -> ()", &remove_faults);
}

}  // namespace

namespace at {
REGISTER_MPS_HOOKS(MPSHooks)  // torch looks it up by this name
}
