// Convolutions and their gradients, channels last, with 1 to 3 spatial dimensions.
//
//   x (n, in..., c)   w (k..., c / groups, o)   y (n, out..., o)
//
// A call is cut into parts by images, or into rows of y where there are fewer images than threads.
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "onednn.h"
#include "shards.h"

namespace ffi = xla::ffi;

namespace jaxdl {

enum Kind : int64_t { kForward = 0, kInput = 1, kWeights = 2 };

using Dims = std::vector<int64_t>;
using Span = ffi::Span<const int64_t>;

struct Geometry {
  int64_t n, c, o, groups;
  Dims in, out, kernel, strides, dilations, low, high;  // one value for each spatial dimension

  std::string key(Kind kind) const {
    std::string key;
    for (int64_t value : {static_cast<int64_t>(kind), n, c, o, groups}) add_to_key(key, value);
    for (const Dims* dims : {&in, &out, &kernel, &strides, &dilations, &low, &high}) {
      add_all_to_key(key, *dims);
    }
    return key;
  }

  // The padding at the end that gives `out` exactly; a larger one would never be read.
  void fit_high() {
    for (size_t i = 0; i < in.size(); ++i) {
      const int64_t window = (kernel[i] - 1) * dilations[i] + 1;
      high[i] = (out[i] - 1) * strides[i] + window - in[i] - low[i];
    }
  }

  // The part with rows `range` of y, and the first row of x that it reads.
  std::pair<Geometry, int64_t> rows(Range range) const {
    const int64_t first = range.first * strides[0] - low[0];
    const int64_t end = first + (range.size - 1) * strides[0] + (kernel[0] - 1) * dilations[0] + 1;
    const int64_t begin = std::max<int64_t>(first, 0);
    Geometry part = *this;
    part.n = 1;
    part.out[0] = range.size;
    part.in[0] = std::min(end, in[0]) - begin;
    part.low[0] = begin - first;
    part.high[0] = std::max<int64_t>(end - in[0], 0);
    return {part, begin};
  }
};

int64_t product(const Dims& dims) {
  int64_t result = 1;
  for (int64_t d : dims) result *= d;
  return result;
}

using Desc = dnnl::memory::desc;
constexpr auto kFloat = dnnl::memory::data_type::f32;

// (n, channels, spatial...) in oneDNN's order, with the channels last in memory.
Desc data_desc(int64_t n, int64_t channels, const Dims& spatial) {
  dnnl::memory::dims dims{n, channels}, strides{channels * product(spatial), 1};
  dims.insert(dims.end(), spatial.begin(), spatial.end());
  int64_t stride = channels * product(spatial);
  for (int64_t size : spatial) strides.push_back(stride /= size);
  return Desc(dims, kFloat, strides);
}

dnnl::memory::dims weight_dims(const Geometry& g) {
  dnnl::memory::dims dims{g.o / g.groups, g.c / g.groups};
  if (g.groups > 1) dims.insert(dims.begin(), g.groups);
  dims.insert(dims.end(), g.kernel.begin(), g.kernel.end());
  return dims;
}

// (k..., c / groups, o) in memory.
Desc weight_desc(const Geometry& g) {
  dnnl::memory::dims strides{1, g.o};
  if (g.groups > 1) strides.insert(strides.begin(), g.o / g.groups);
  int64_t stride = g.o * (g.c / g.groups) * product(g.kernel);
  for (int64_t size : g.kernel) strides.push_back(stride /= size);
  return Desc(weight_dims(g), kFloat, strides);
}

struct Primitive {
  dnnl::primitive run;
  dnnl::reorder reorder;  // between the plain and oneDNN's layout of the weights
  Desc x, y, plain, weights, scratch;
  std::string implementation;
  bool reordered() const { return plain != weights; }
};

Primitive make_primitive(Kind kind, const Geometry& g) {
  const Desc x = data_desc(g.n, g.c, g.in), y = data_desc(g.n, g.o, g.out);
  const Desc any(weight_dims(g), kFloat, dnnl::memory::format_tag::any);
  dnnl::memory::dims dilates = g.dilations;
  for (int64_t& d : dilates) d -= 1;
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const auto algorithm = dnnl::algorithm::convolution_direct;

  Primitive made;
  made.plain = weight_desc(g);
  const dnnl::convolution_forward::primitive_desc forward(
      engine(), dnnl::prop_kind::forward_training, algorithm, x, any, y, g.strides, dilates, g.low,
      g.high, attr);
  auto describe = [&](const auto& pd, const Desc& weights) {
    made.weights = weights;
    made.scratch = pd.scratchpad_desc();
    made.implementation = pd.impl_info_str();
  };
  made.x = x;
  made.y = y;
  if (kind == kForward) {
    made.run = dnnl::convolution_forward(forward);
    describe(forward, forward.weights_desc());
  } else if (kind == kInput) {
    const dnnl::convolution_backward_data::primitive_desc pd(
        engine(), algorithm, x, any, y, g.strides, dilates, g.low, g.high, forward, attr);
    made.run = dnnl::convolution_backward_data(pd);
    describe(pd, pd.weights_desc());
  } else {
    const dnnl::convolution_backward_weights::primitive_desc pd(
        engine(), algorithm, x, any, y, g.strides, dilates, g.low, g.high, forward, attr);
    made.run = dnnl::convolution_backward_weights(pd);
    describe(pd, pd.diff_weights_desc());
  }
  if (made.reordered()) {
    dnnl::primitive_attr plain;
    plain.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const Desc &from = kind == kWeights ? made.weights : made.plain,
               &to = kind == kWeights ? made.plain : made.weights;
    made.reorder = dnnl::reorder(
        dnnl::reorder::primitive_desc(engine(), from, engine(), to, plain, false));
  }
  return made;
}

std::shared_ptr<const Primitive> primitive(Kind kind, const Geometry& g) {
  static Cache<Primitive> cache(2048);
  return cache.get(g.key(kind), [&] { return make_primitive(kind, g); });
}

dnnl::memory memory(const Desc& desc, const void* data) {
  return dnnl::memory(desc, engine(), const_cast<void*>(data));
}

void reorder(const Primitive& p, const Desc& from_desc, const void* from, const Desc& to_desc,
             void* to) {
  auto source = memory(from_desc, from), target = memory(to_desc, to);
  dnnl::reorder(p.reorder).execute(stream(), source, target);
}

void execute(const Primitive& p, Kind kind, const void* x, const void* weights, const void* y) {
  static thread_local Scratch scratch;
  const int data = kind == kInput ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC;
  const int filter = kind == kWeights ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS;
  const int result = kind == kForward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST;
  p.run.execute(stream(),
                {{data, memory(p.x, x)},
                 {filter, memory(p.weights, weights)},
                 {result, memory(p.y, y)},
                 {DNNL_ARG_SCRATCHPAD,
                  memory(p.scratch, scratch.at_least(p.scratch.get_size() + 64))}});
}

// A part of a call: its geometry, and where its x and y begin, in elements.
struct Part {
  Geometry geometry;
  int64_t x, y;
};

std::vector<Part> cut(Kind kind, const Geometry& g, int64_t threads) {
  const int64_t x_image = g.c * product(g.in), y_image = g.o * product(g.out);
  const double work = 2.0 * g.n * y_image * (g.c / g.groups) * product(g.kernel);
  if (work < 1e6) threads = 1;
  std::vector<Part> parts;
  if (g.n >= threads || kind == kInput) {
    const int64_t each = part_size(g.n, std::min(g.n, threads), 1);
    for (int64_t i = 0; i * each < g.n; ++i) {
      const Range range = part(g.n, each, i);
      Geometry images = g;
      images.n = range.size;
      parts.push_back({images, range.first * x_image, range.first * y_image});
    }
    return parts;
  }
  const int64_t each = part_size(g.out[0], threads, 1);
  for (int64_t image = 0; image < g.n; ++image) {
    for (int64_t i = 0; i * each < g.out[0]; ++i) {
      const Range range = part(g.out[0], each, i);
      auto [rows, first] = g.rows(range);
      if (rows.in[0] < 1) return {{g, 0, 0}};  // rows that read nothing but padding
      parts.push_back({rows, image * x_image + first * (x_image / g.in[0]),
                       image * y_image + range.first * (y_image / g.out[0])});
    }
  }
  return parts;
}

// Of few positions, the weights are read from memory once for each call, and bringing them into
// oneDNN's layout takes longer than the convolution. A product of patches reads them as they are.
constexpr int64_t kFewPositions = 256;

bool is_product_of_patches(Kind kind, const Geometry& g) {
  return kind != kInput && g.groups == 1 && g.n * product(g.out) <= kFewPositions &&
         g.c * product(g.kernel) * g.o > int64_t{1} << 16;
}

// Writes the patches of positions `range`, (position, k..., c) each.
void write_patches(const Geometry& g, const float* x, Range range, float* patches) {
  auto whole = [](const Dims& dims, int64_t fill) {  // three dimensions, the first ones of size 1
    std::array<int64_t, 3> result{fill, fill, fill};
    std::copy(dims.begin(), dims.end(), result.begin() + (3 - dims.size()));
    return result;
  };
  const auto in = whole(g.in, 1), out = whole(g.out, 1), kernel = whole(g.kernel, 1);
  const auto stride = whole(g.strides, 1), dilation = whole(g.dilations, 1), low = whole(g.low, 0);
  const int64_t row = kernel[0] * kernel[1] * kernel[2] * g.c;
  for (int64_t p = range.first; p < range.first + range.size; ++p) {
    const std::array<int64_t, 3> at{p / (out[1] * out[2]) % out[0], p / out[2] % out[1], p % out[2]};
    const float* image = x + p / (out[0] * out[1] * out[2]) * product(g.in) * g.c;
    float* patch = patches + p * row;
    for (int64_t i = 0; i < kernel[0]; ++i) {
      const int64_t z = at[0] * stride[0] + i * dilation[0] - low[0];
      for (int64_t j = 0; j < kernel[1]; ++j) {
        const int64_t y = at[1] * stride[1] + j * dilation[1] - low[1];
        for (int64_t k = 0; k < kernel[2]; ++k, patch += g.c) {
          const int64_t c = at[2] * stride[2] + k * dilation[2] - low[2];
          const bool inside = z >= 0 && z < in[0] && y >= 0 && y < in[1] && c >= 0 && c < in[2];
          if (inside) {
            std::memcpy(patch, image + ((z * in[1] + y) * in[2] + c) * g.c, g.c * sizeof(float));
          } else {
            std::memset(patch, 0, g.c * sizeof(float));
          }
        }
      }
    }
  }
}

void run_patches(ffi::ThreadPool& pool, Kind kind, const Geometry& g, const float* x,
                 const float* weights, const float* y) {
  static thread_local Scratch scratch;
  const int64_t positions = g.n * product(g.out), row = g.c * product(g.kernel), o = g.o;
  const int64_t threads = std::max<int64_t>(pool.num_threads(), 1);
  float* const patches = static_cast<float*>(scratch.at_least(positions * row * sizeof(float)));
  const int64_t some = part_size(positions, threads, 1);
  run_parts(pool, (positions + some - 1) / some, [&g, x, patches, positions, some](int64_t i) {
    write_patches(g, x, part(positions, some, i), patches);
  });
  const int64_t size = kind == kForward ? o : row, each = part_size(size, threads, 16);
  run_parts(pool, (size + each - 1) / each, [=](int64_t i) {
    stream();
    const Range range = part(size, each, i);
    if (kind == kForward) {
      dnnl::sgemm('N', 'N', positions, range.size, row, 1.0f, patches, row, weights + range.first,
                  o, 0.0f, const_cast<float*>(y) + range.first, o);
    } else {
      dnnl::sgemm('T', 'N', range.size, o, positions, 1.0f, patches + range.first, row, y, o, 0.0f,
                  const_cast<float*>(weights) + range.first * o, o);
    }
  });
}

ffi::Error run(ffi::ThreadPool& pool, Kind kind, const Geometry& g, const float* x,
               const float* weights, const float* y) {
  if (is_product_of_patches(kind, g)) {
    run_patches(pool, kind, g, x, weights, y);
    return ffi::Error::Success();
  }
  static thread_local Scratch filters;
  const auto parts = cut(kind, g, std::max<int64_t>(pool.num_threads(), 1));
  std::vector<std::shared_ptr<const Primitive>> primitives;
  for (const Part& part : parts) primitives.push_back(primitive(kind, part.geometry));
  const int64_t count = static_cast<int64_t>(parts.size());

  if (kind != kWeights) {
    // Parts may have different layouts of the weights; most have the same.
    std::vector<const void*> filter(count);
    std::vector<size_t> offsets(count);
    size_t bytes = 0;
    auto same = [&](int64_t i) {
      int64_t j = 0;
      while (primitives[j]->weights != primitives[i]->weights) ++j;
      return j;
    };
    for (int64_t i = 0; i < count; ++i) {
      if (primitives[i]->reordered() && same(i) == i) {
        offsets[i] = bytes;
        bytes += (primitives[i]->weights.get_size() + 63) / 64 * 64;
      }
    }
    char* room = bytes ? static_cast<char*>(filters.at_least(bytes)) : nullptr;
    for (int64_t i = 0; i < count; ++i) {
      const Primitive& p = *primitives[i];
      const int64_t first = same(i);
      filter[i] = p.reordered() ? room + offsets[first] : static_cast<const void*>(weights);
      if (p.reordered() && first == i) {
        reorder(p, p.plain, weights, p.weights, room + offsets[i]);
      }
    }
    run_parts(pool, count, [&parts, &primitives, &filter, kind, x, y](int64_t i) {
      stream();
      execute(*primitives[i], kind, x + parts[i].x, filter[i], y + parts[i].y);
    });
    return ffi::Error::Success();
  }

  // Each part writes a gradient of its own; they are added in a fixed order.
  const size_t plain = primitives[0]->plain.get_size();
  std::vector<size_t> offsets(count);
  size_t bytes = 0;
  for (int64_t i = 0; i < count; ++i) {
    offsets[i] = bytes;
    bytes += (primitives[i]->weights.get_size() + plain + 127) / 64 * 64;
  }
  char* room = static_cast<char*>(filters.at_least(bytes));
  float* const total = const_cast<float*>(weights);
  std::vector<const float*> gradients(count);
  run_parts(pool, count, [&, room, total](int64_t i) {
    stream();
    const Primitive& p = *primitives[i];
    // The first gradient in the plain layout is the sum's start.
    float* target = i == 0 ? total
                           : reinterpret_cast<float*>(room + offsets[i] +
                                                      (p.weights.get_size() + 63) / 64 * 64);
    if (p.reordered()) {
      execute(p, kind, x + parts[i].x, room + offsets[i], y + parts[i].y);
      reorder(p, p.weights, room + offsets[i], p.plain, target);
    } else {
      execute(p, kind, x + parts[i].x, target, y + parts[i].y);
    }
    gradients[i] = target;
  });
  const int64_t size = static_cast<int64_t>(plain / sizeof(float));
  for (int64_t i = 1; i < count; ++i) {
    const float* gradient = gradients[i];
    for (int64_t j = 0; j < size; ++j) total[j] += gradient[j];
  }
  return ffi::Error::Success();
}

// Fills in a geometry from the shapes of x, w and y; returns what is wrong with them.
std::string read(Span x, Span w, Span y, Span strides, Span dilations, Span low, int64_t groups,
                 Geometry* g) {
  const size_t spatial = x.size() < 3 ? 0 : x.size() - 2;
  if (spatial < 1 || spatial > 3 || w.size() != x.size() || y.size() != x.size()) {
    return "a convolution has 1 to 3 spatial dimensions";
  }
  if (strides.size() != spatial || dilations.size() != spatial || low.size() != spatial) {
    return "a convolution needs a stride, a dilation and a padding for each spatial dimension";
  }
  auto dims = [&](Span values, size_t first) {
    return Dims(values.begin() + first, values.begin() + first + spatial);
  };
  *g = Geometry{x[0], x[spatial + 1], y[spatial + 1], groups, dims(x, 1), dims(y, 1), dims(w, 0),
                dims(strides, 0), dims(dilations, 0), dims(low, 0), dims(low, 0)};
  if (groups < 1 || g->c % groups || g->o % groups || w[spatial] != g->c / groups ||
      w[spatial + 1] != g->o || y[0] != x[0]) {
    return "the channels or images of a convolution do not agree";
  }
  for (Span all : {x, w, y, strides, dilations}) {
    for (int64_t value : all) {
      if (value < 1 || value > (int64_t{1} << 30)) return "a size of a convolution is out of range";
    }
  }
  g->fit_high();
  for (size_t i = 0; i < spatial; ++i) {
    if (g->low[i] < 0 || g->high[i] <= -g->strides[i]) {
      return "the sizes of a convolution do not agree with its padding";
    }
  }
  return "";
}

ffi::Error convolve(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> first, ffi::Buffer<ffi::F32> second,
                    ffi::ResultBuffer<ffi::F32> result, int64_t kind, Span strides, Span dilations,
                    Span low, int64_t groups) {
  // Which buffer is x, w or y: (x, w) -> y, (y, w) -> x, (x, y) -> w.
  struct Tensor {
    Span dims;
    const float* data;
  };
  const Tensor a{first.dimensions(), first.typed_data()};
  const Tensor b{second.dimensions(), second.typed_data()};
  const Tensor c{result->dimensions(), result->typed_data()};
  if (kind < kForward || kind > kWeights) return invalid("there is no such convolution");
  const Tensor& x = kind == kInput ? c : a;
  const Tensor& w = kind == kWeights ? c : b;
  const Tensor& y = kind == kForward ? c : kind == kInput ? a : b;
  Geometry geometry;
  const std::string wrong = read(x.dims, w.dims, y.dims, strides, dilations, low, groups, &geometry);
  if (!wrong.empty()) return invalid(wrong);
  return guard([&] {
    return run(pool, static_cast<Kind>(kind), geometry, x.data, w.data, y.data);
  });
}

}  // namespace jaxdl

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdl_convolve, jaxdl::convolve,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("kind")
                                  .Attr<ffi::Span<const int64_t>>("strides")
                                  .Attr<ffi::Span<const int64_t>>("dilations")
                                  .Attr<ffi::Span<const int64_t>>("low")
                                  .Attr<int64_t>("groups"));

// Writes the name of oneDNN's implementation of a convolution, which begins with "ref" for one
// without optimization, or an error message that begins with "!".
extern "C" void jaxdl_describe_convolution(int64_t kind, int64_t rank, const int64_t* x,
                                           const int64_t* w, const int64_t* y,
                                           const int64_t* strides, const int64_t* dilations,
                                           const int64_t* low, int64_t groups, char* name,
                                           int64_t size) {
  using jaxdl::Span;
  std::string text;
  try {
    jaxdl::stream();
    const size_t n = static_cast<size_t>(rank), spatial = n - 2;
    jaxdl::Geometry geometry;
    text = jaxdl::read(Span(x, n), Span(w, n), Span(y, n), Span(strides, spatial),
                       Span(dilations, spatial), Span(low, spatial), groups, &geometry);
    const auto which = static_cast<jaxdl::Kind>(kind);
    if (!text.empty()) {
      text = "!" + text;
    } else if (jaxdl::is_product_of_patches(which, geometry)) {
      text = "product of patches";
    } else {
      text = jaxdl::make_primitive(which, geometry).implementation;
    }
  } catch (const std::exception& error) {
    text = std::string("!") + error.what();
  }
  std::strncpy(name, text.c_str(), size - 1);
  name[size - 1] = '\0';
}

// oneDNN's version, 10000 major + 100 minor + patch.
extern "C" int64_t jaxdl_onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return version->major * 10000 + version->minor * 100 + version->patch;
}

// dnnl_cpu_isa_t of this machine.
extern "C" int64_t jaxdl_isa() { return static_cast<int64_t>(dnnl::get_effective_cpu_isa()); }
