"""Convolution over any number of spatial axes, and transposed convolution.

As in all libraries since LeNet (LeCun et al. 1998, doi:10.1109/5.726791), the kernel is not
flipped, so the operation is cross-correlation; `flip=True` is the convolution of mathematics.

Shapes: N examples, `*space` spatial axes, C input channels, F output channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.core import Module, named_key
from jaxdl.nn import _check, _window
from jaxdl.nn._window import Padding
from jaxdl.nn.conv_cpu import convolution_on_cpu, is_fast_on_cpu, is_fastest, numbers
from jaxdl.nn.initializers import Initializer, initializer

__all__ = ["conv", "conv_transpose"]


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    flip: bool = False,
    implementation: str = "auto",
) -> jax.Array:
    """Convolves x with a kernel: y[n, i, f] = b[f] + sum_{m, c} x[n, s i + d m - p, c] K[m, c, f].

    Args:
      x: (N, *space, C), with one or more spatial axes.
      kernel: (*window, C / groups, F), of x's dtype.
      bias: (F,) or None.
      stride: s, the step of the window: one integer, or one for each axis.
      padding: p. "VALID" adds nothing; "SAME" adds the zeros that keep the size at stride 1, an odd
        one after; "CIRCULAR" wraps around. Otherwise the number of zeros at the edges: an integer,
        or for each axis an integer or a pair (before, after).
      dilation: d, the distance between the window's cells.
      groups: the number of groups of channels; each group of outputs reads one group of inputs.
      flip: whether to flip the kernel along all axes: true convolution, sum_m x[i - m] K[m].
      implementation: "xla" for XLA's convolution; "cpu" for the algorithms of `jaxdl.nn.conv_cpu`,
        which require dilation 1, and stride 1 without groups, at most 16 positions, or a group for
        each channel. They are many times faster on a CPU with few channels, few positions or many
        groups, and inside compiled loops. "auto" for "cpu" where it applies and JAX's default
        backend is a CPU, else "xla". Results are equal up to rounding.

    Returns:
      (N, *positions, F), with floor((n + 2p - d (k - 1) - 1) / s) + 1 positions along each axis.

    Raises:
      ValueError: shapes, dtypes or channels do not fit, or the window does not fit into the input.
    """
    n = kernel.ndim - 2
    _check_operands("conv", x, kernel)
    channels, features = x.shape[-1], kernel.shape[-1]
    if channels != kernel.shape[-2] * groups or features % groups:
        raise ValueError(
            f"conv: {channels} channels and a kernel {list(kernel.shape)} in {groups} groups; "
            "expected kernel axis -2 of size channels / groups, and axis -1 divisible by groups."
        )
    stride = _check.per_axis("conv", "stride", stride, n)
    dilation = _check.per_axis("conv", "dilation", dilation, n)
    window = _window.extent(kernel.shape[:-2], dilation)
    names = ("SAME", "VALID", "CIRCULAR")
    pads = _window.pads("conv", padding, x.shape[1:-1], window, stride, names)
    _window.positions("conv", x.shape[1:-1], window, stride, pads)
    if isinstance(padding, str) and padding.upper() == "CIRCULAR":
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode="wrap")
        # The edges are wrapped already.
        pads = ((0, 0),) * n
    # The derivative of a convolution crops where more than k - 1 zeros are added. XLA:CPU crops the
    # wrong cells of float32 arrays up to JAX 0.11, so the excess is added before.
    excess = tuple(
        tuple(max(0, p - k + 1) for p in pair) for pair, k in zip(pads, window, strict=True)
    )
    if any(map(any, excess)):
        x = jnp.pad(x, ((0, 0), *excess, (0, 0)))
        pads = tuple((lo - a, hi - b) for (lo, hi), (a, b) in zip(pads, excess, strict=True))
    if flip:
        kernel = jnp.flip(kernel, tuple(range(n)))
    plain = all(d == 1 for d in dilation)
    applies = plain and is_fast_on_cpu(x, kernel, pads, stride, groups)
    if implementation not in ("auto", "xla", "cpu") or (implementation == "cpu" and not applies):
        raise ValueError(
            f"conv: implementation is {implementation!r}; expected 'auto', 'xla', or, for dilation "
            "1 and either no groups with stride 1 or few positions, or a group for each channel in "
            "float32, 'cpu'."
        )
    if implementation == "cpu" or (implementation == "auto" and applies and is_fastest()):
        y = convolution_on_cpu(x, kernel, pads, stride)
    else:
        y = lax.conv_general_dilated(
            x,
            kernel,
            stride,
            pads,
            rhs_dilation=dilation,
            dimension_numbers=numbers(n),
            feature_group_count=groups,
        )
    return y if bias is None else y + bias


def transposed_convolution(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    flip: bool = False,
) -> jax.Array:
    """Computes a transposed convolution: that of x with s - 1 zeros inserted between its cells.

    Stride and padding are those of the convolution that is transposed:
    <conv(x, K, ...), y> = <x, conv_transpose(y, K', ..., flip=True)>, where K' is K with its last
    two axes exchanged. Dumoulin & Visin 2016, arXiv 1603.07285, ch. 4.

    Args:
      x: (N, *space, C).
      kernel: (*window, C, F), of x's dtype.
      bias: (F,) or None.
      stride: s. The output is about s times as large as x.
      padding: p, the cells removed from each edge of the full result, as integers or pairs of at
        most d (k - 1). For i input positions, "SAME" gives i s positions and "VALID"
        (i - 1) s + max(k, s), as in Flax.
      dilation: d, the distance between the window's cells.
      flip: whether to flip the kernel: False as in Flax, True for the adjoint of `conv`.

    Returns:
      (N, *positions, F). Explicit padding gives (i - 1) s - 2p + d (k - 1) + 1 positions.

    Raises:
      ValueError: shapes, dtypes or channels do not fit, or the padding exceeds the window.
    """
    n = kernel.ndim - 2
    _check_operands("conv_transpose", x, kernel)
    if x.shape[-1] != kernel.shape[-2]:
        raise ValueError(
            f"conv_transpose: {x.shape[-1]} channels and a kernel {list(kernel.shape)}; "
            "expected kernel axis -2 to be the channels. To transpose a convolution, exchange the "
            "last two axes of its kernel."
        )
    stride = _check.per_axis("conv_transpose", "stride", stride, n)
    dilation = _check.per_axis("conv_transpose", "dilation", dilation, n)
    window = _window.extent(kernel.shape[:-2], dilation)
    edges = _transposed_edges(padding, window, stride)
    if flip:
        kernel = jnp.flip(kernel, tuple(range(n)))
    # Zeros are inserted explicitly: XLA's gradient of `lhs_dilation` is over 30 times slower.
    zero = jnp.zeros((), x.dtype)
    inner = [(lo, hi, s - 1) for (lo, hi), s in zip(edges, stride, strict=True)]
    x = lax.pad(x, zero, [(0, 0, 0), *inner, (0, 0, 0)])
    return convolution(x, kernel, bias, padding="VALID", dilation=dilation)


def _transposed_edges(padding, window, stride) -> _window.Pairs:
    """Computes the zeros at the edges of the dilated input, d (k - 1) - p, before "VALID"."""
    if isinstance(padding, str):
        _window.pads("conv_transpose", padding, window, window, stride)
        if padding.upper() == "VALID":
            return tuple((k - 1, max(k, s) - 1) for k, s in zip(window, stride, strict=True))
        edges = [
            (k - 1 if s >= k else -(-(k + s - 2) // 2), k + s - 2)
            for k, s in zip(window, stride, strict=True)
        ]
        return tuple((before, total - before) for before, total in edges)
    cut = _window.pads("conv_transpose", padding, window, window, stride)
    if any(max(p) > k - 1 for p, k in zip(cut, window, strict=True)):
        raise ValueError(
            f"conv_transpose: padding is {padding!r} for a window of {tuple(window)}; "
            "expected at most one less than the window at each edge."
        )
    return tuple((k - 1 - p[0], k - 1 - p[1]) for p, k in zip(cut, window, strict=True))


def _check_operands(what: str, x: jax.Array, kernel: jax.Array) -> None:
    if kernel.ndim < 3 or x.ndim != kernel.ndim or x.dtype != kernel.dtype:
        raise ValueError(
            f"{what}: x is {x.dtype}{list(x.shape)} and the kernel {kernel.dtype}"
            f"{list(kernel.shape)}; expected (N, *space, C) and (*window, C, F) of one dtype, with "
            "equally many spatial axes. Add a batch axis with x[None], or cast with tree.cast."
        )


def conv(
    features: int,
    kernel_size: int | Sequence[int] = 3,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    flip: bool = False,
    implementation: str = "auto",
    use_bias: bool = True,
    kernel_init: str | Initializer = "lecun_normal",
    bias_init: str | Initializer = "zeros",
) -> Module:
    """Creates a convolutional layer, over the spatial axes of its input (1-D, 2-D, 3-D or more).

    Parameters: `kernel` (*kernel_size, C / groups, features) and `bias` (features,), in the
    input's dtype. Names and default initial values are those of Flax's `Conv`.

    Args:
      features: F, the number of output channels.
      kernel_size: the window, one integer for all spatial axes or one for each. For sequences
        (N, L, C) pass a tuple, such as `(3,)`.
      stride, padding, dilation, groups, flip, implementation: see `nn.functional.conv`.
      use_bias: whether to add b.
      kernel_init, bias_init: a name from `nn.INITIALIZERS`, or `(key, shape, dtype) -> array`.

    Returns:
      A `Module` from (N, *space, C) to (N, *positions, F).

    Raises:
      ValueError: a size is not a positive integer; an initializer's name is unknown; at init, the
        input is not floating-point, has no spatial axis or does not fit. With an integer
        `kernel_size` also inputs (N, L, L), L >= 8, which are probably images without a channel
        axis; other inputs (N, L, C) that may be images cause a warning.
    """
    _check.positive("conv", features=features, groups=groups)
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    options |= dict(flip=flip, implementation=implementation)
    return _layer(
        "conv", convolution, features, kernel_size, use_bias, kernel_init, bias_init, options
    )


def conv_transpose(
    features: int,
    kernel_size: int | Sequence[int] = 3,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    flip: bool = False,
    use_bias: bool = True,
    kernel_init: str | Initializer = "lecun_normal",
    bias_init: str | Initializer = "zeros",
) -> Module:
    """Creates a transposed convolution layer ("deconvolution").

    Parameters: `kernel` (*kernel_size, C, features) and `bias` (features,). Names, default initial
    values and named paddings are those of Flax's `ConvTranspose`. Explicit padding p is removed
    from the output; the corresponding value in Flax, added to the input, is k - 1 - p.

    Args:
      features: F, the number of output channels.
      kernel_size: the window, one integer for all spatial axes or one for each. For sequences
        (N, L, C) pass a tuple, such as `(3,)`.
      stride, padding, dilation, flip: see `nn.functional.conv_transpose`.
      use_bias: whether to add b.
      kernel_init, bias_init: a name from `nn.INITIALIZERS`, or `(key, shape, dtype) -> array`.

    Returns:
      A `Module` from (N, *space, C) to (N, *positions, F).

    Raises:
      ValueError: as for `conv`.
    """
    _check.positive("conv_transpose", features=features)
    options = dict(stride=stride, padding=padding, dilation=dilation, flip=flip)
    return _layer(
        "conv_transpose",
        transposed_convolution,
        features,
        kernel_size,
        use_bias,
        kernel_init,
        bias_init,
        options,
    )


def _layer(kind, operation, features, kernel_size, use_bias, kernel_init, bias_init, options):
    """Creates either layer; `operation(x, kernel, bias, **options)` computes its output."""
    make_kernel, make_bias = initializer(kernel_init), initializer(bias_init)
    for name in ("kernel_size", "stride", "dilation"):
        value = {"kernel_size": kernel_size, **options}[name]
        _check.per_axis(kind, name, value, 1 if isinstance(value, int) else len(value))
    groups = options.get("groups", 1)

    def init(key, x):
        _check.floating(kind, x, min_ndim=3)
        if x.ndim == 3 and x.shape[1] == x.shape[2] >= 8 and isinstance(kernel_size, int):
            raise ValueError(
                f"{kind}: input {x.shape} has one spatial axis and the same number of channels; "
                "expected (N, H, W, C) for images. Add a channel axis, x[..., None]; for sequences "
                f"pass one size per axis, kernel_size=({kernel_size},)."
            )
        _check.warn_if_images(kind, "kernel_size", kernel_size, x)
        window = _check.per_axis(kind, "kernel_size", kernel_size, x.ndim - 2)
        shape = (*window, x.shape[-1] // groups, features)
        params = {"kernel": make_kernel(named_key(key, "kernel"), shape, x.dtype)}
        if use_bias:
            params["bias"] = make_bias(named_key(key, "bias"), (features,), x.dtype)
        jax.eval_shape(lambda p: apply(p, {}, x), params)  # raises the errors of shapes
        return params, {}

    def apply(params, state, x, **_):
        bias = params["bias"] if use_bias else None
        return operation(x, params["kernel"], bias, **options), state

    config = {"features": features, "kernel_size": kernel_size, **options, "use_bias": use_bias}
    return Module(init, apply, kind, config)
