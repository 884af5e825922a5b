// Batched matrix products: c[b, m, n] = sum over k of a[b, m, k] b[b, k, n].
#include <cstdint>

#include "onednn.h"
#include "shards.h"

namespace ffi = xla::ffi;

namespace jaxdl {

// A batch of matrices in a buffer, in elements. One of the last two strides is 1.
struct Matrices {
  const float* data;
  int64_t batch_stride, row_stride, column_stride;

  const float* element(int64_t b, int64_t row, int64_t column) const {
    return data + b * batch_stride + row * row_stride + column * column_stride;
  }
  char transposed() const { return column_stride == 1 ? 'N' : 'T'; }
  int64_t leading() const { return column_stride == 1 ? row_stride : column_stride; }
};

// The largest index of an element plus one.
int64_t extent(int64_t batch, int64_t rows, int64_t columns, ffi::Span<const int64_t> strides) {
  return (batch - 1) * strides[0] + (rows - 1) * strides[1] + (columns - 1) * strides[2] + 1;
}

ffi::Error multiply(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> a, ffi::Buffer<ffi::F32> b,
                    ffi::ResultBuffer<ffi::F32> c, ffi::Span<const int64_t> sizes,
                    ffi::Span<const int64_t> a_strides, ffi::Span<const int64_t> b_strides) {
  if (sizes.size() != 4 || a_strides.size() != 3 || b_strides.size() != 3) {
    return invalid("a product needs 4 sizes and 3 strides of each operand");
  }
  const int64_t batch = sizes[0], m = sizes[1], n = sizes[2], k = sizes[3];
  if (batch < 1 || m < 1 || n < 1 || k < 1) return invalid("a size of a product is below 1");
  if (extent(batch, m, k, a_strides) > static_cast<int64_t>(a.element_count()) ||
      extent(batch, k, n, b_strides) > static_cast<int64_t>(b.element_count()) ||
      batch * m * n != static_cast<int64_t>(c->element_count())) {
    return invalid("the buffers of a product do not have its sizes");
  }
  const Matrices left{a.typed_data(), a_strides[0], a_strides[1], a_strides[2]};
  const Matrices right{b.typed_data(), b_strides[0], b_strides[1], b_strides[2]};
  float* const out = c->typed_data();

  return guard([&] {
    const int64_t threads = std::max<int64_t>(pool.num_threads(), 1);
    // Below this many operations, waking another thread takes longer than the product.
    const int64_t parts = 2.0 * batch * m * n * k < 1e6 ? 1 : threads;
    if (batch >= parts) {
      const int64_t each = part_size(batch, parts, 1);
      run_parts(pool, (batch + each - 1) / each, [=](int64_t i) {
        stream();
        const Range range = part(batch, each, i);
        for (int64_t j = range.first; j < range.first + range.size; ++j) {
          dnnl::sgemm(left.transposed(), right.transposed(), m, n, k, 1.0f, left.element(j, 0, 0),
                      left.leading(), right.element(j, 0, 0), right.leading(), 0.0f,
                      out + j * m * n, n);
        }
      });
      return ffi::Error::Success();
    }
    const bool by_columns = n >= m;
    const int64_t size = by_columns ? n : m, each = part_size(size, parts, 16);
    const int64_t count = (size + each - 1) / each;
    run_parts(pool, batch * count, [=](int64_t i) {
      stream();
      const int64_t j = i / count;
      const Range range = part(size, each, i % count);
      const int64_t row = by_columns ? 0 : range.first, column = by_columns ? range.first : 0;
      dnnl::sgemm(left.transposed(), right.transposed(), by_columns ? m : range.size,
                  by_columns ? range.size : n, k, 1.0f, left.element(j, row, 0), left.leading(),
                  right.element(j, 0, column), right.leading(), 0.0f,
                  out + j * m * n + row * n + column, n);
    });
    return ffi::Error::Success();
  });
}

}  // namespace jaxdl

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdl_multiply, jaxdl::multiply,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<ffi::Span<const int64_t>>("sizes")
                                  .Attr<ffi::Span<const int64_t>>("a_strides")
                                  .Attr<ffi::Span<const int64_t>>("b_strides"));
