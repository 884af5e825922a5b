"""Convolution over any number of spatial axes, and its transpose.

As every library since LeNet (LeCun et al. 1998, doi:10.1109/5.726791) we slide the kernel without
turning it, which is cross-correlation; `flip=True` is the convolution of the lectures (row F01).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.core import Module, named_key
from jaxdl.jaxpr.tracing import standard_primitives
from jaxdl.nn import _check, _window
from jaxdl.nn._window import Padding
from jaxdl.nn.conv_cpu import convolution_on_cpu, numbers
from jaxdl.nn.initializers import Initializer, initializer

__all__ = ["conv", "conv_transpose", "convolution", "transposed_convolution"]


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
    form: str = "auto",
) -> jax.Array:
    """y[n, i, f] = b[f] + sum_{m, c} x[n, s i + d m - p, c] K[m, c, f]. Lecture rows F01-F05.

    Args:
      x: (N, *space, C) inputs; one, two or three axes of space, or more.
      kernel: (*window, C / groups, F), of x's dtype.
      bias: (F,) or None.
      stride: s, the step of the window: for all axes, or for each.
      padding: p: "VALID" adds nothing; "SAME" as many zeros as keep the size at stride 1, the odd
        one after; "CIRCULAR" wraps around; or the number of zeros at each edge: an integer, or for
        each axis an integer or a pair (before, after).
      dilation: d, the distance of the window's cells.
      groups: the channels fall into so many groups that do not see each other.
      flip: whether to turn the kernel by 180 degrees: true convolution, sum_m x[i - m] K[m].
      form: how it is computed; the values are the same, up to rounding. "xla" is XLA's
        convolution and its derivatives; "cpu", for stride and dilation 1 without groups, the forms
        of `nn.conv_cpu`, many times as fast there with few channels and inside compiled loops;
        "auto" takes them where they apply and JAX's default backend is a CPU.

    Returns:
      (N, *positions, F); along each axis floor((n + 2p - d (k - 1) - 1) / s) + 1 positions.

    Raises:
      ValueError: shapes, dtypes or channels do not fit; the window does not fit into the input.
    """
    n = kernel.ndim - 2
    _check_operands("convolution", x, kernel)
    channels, features = x.shape[-1], kernel.shape[-1]
    if channels != kernel.shape[-2] * groups or features % groups:
        raise ValueError(
            f"convolution: {channels} channels and a kernel {list(kernel.shape)} in {groups} groups"
            f"; expected kernel axis -2 of channels / groups, and axis -1 divisible by groups."
        )
    stride = _check.per_axis("convolution", "stride", stride, n)
    dilation = _check.per_axis("convolution", "dilation", dilation, n)
    window = _window.extent(kernel.shape[:-2], dilation)
    names = ("SAME", "VALID", "CIRCULAR")
    pads = _window.pads("convolution", padding, x.shape[1:-1], window, stride, names)
    _window.positions("convolution", x.shape[1:-1], window, stride, pads)
    if isinstance(padding, str) and padding.upper() == "CIRCULAR":
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)), mode="wrap")
        pads = ((0, 0),) * n
    if flip:
        kernel = jnp.flip(kernel, tuple(range(n)))
    applies = groups == 1 and all(s == 1 for s in (*stride, *dilation))
    if form not in ("auto", "xla", "cpu") or (form == "cpu" and not applies):
        raise ValueError(
            f"convolution: form is {form!r}; expected 'auto', 'xla', or, for stride and dilation 1 "
            "without groups, 'cpu'."
        )
    fast = form == "cpu" or (form == "auto" and applies and jax.default_backend() == "cpu")
    if fast and not standard_primitives.value:
        y = convolution_on_cpu(x, kernel, pads)
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
    """The convolution of x with s - 1 zeros put between its cells. Lecture row F14.

    Stride and padding are those of the convolution that it transposes:
    <convolution(x, K, ...), y> = <x, transposed_convolution(y, K', ..., flip=True)>, where K' is K
    with its last two axes exchanged. Dumoulin & Visin 2016, arXiv 1603.07285, ch. 4.

    Args:
      x: (N, *space, C) inputs.
      kernel: (*window, C, F), of x's dtype.
      bias: (F,) or None.
      stride: s: the output is about s times as large.
      padding: p: cells cut from each edge of the whole result, as integers or pairs, at most
        d (k - 1); "SAME" gives i s positions; "VALID" (i - 1) s + max(k, s), as in Flax.
      dilation: d, the distance of the window's cells.
      flip: whether to turn the kernel; False is Flax's layer, True the adjoint of `convolution`.

    Returns:
      (N, *positions, F); with explicit padding (i - 1) s - 2p + d (k - 1) + 1 along each axis.

    Raises:
      ValueError: shapes, dtypes or channels do not fit; there is more padding than window.
    """
    n = kernel.ndim - 2
    _check_operands("transposed_convolution", x, kernel)
    if x.shape[-1] != kernel.shape[-2]:
        raise ValueError(
            f"transposed_convolution: {x.shape[-1]} channels and a kernel {list(kernel.shape)}; "
            "expected kernel axis -2 to be the channels: to transpose a convolution, exchange the "
            "last two axes of its kernel."
        )
    stride = _check.per_axis("transposed_convolution", "stride", stride, n)
    dilation = _check.per_axis("transposed_convolution", "dilation", dilation, n)
    window = _window.extent(kernel.shape[:-2], dilation)
    edges = _transposed_edges(padding, window, stride)
    if flip:
        kernel = jnp.flip(kernel, tuple(range(n)))
    # Zeros written out, not `lhs_dilation`: XLA's gradient of that is over 30 times as slow.
    zero = jnp.zeros((), x.dtype)
    inner = [(lo, hi, s - 1) for (lo, hi), s in zip(edges, stride, strict=True)]
    x = lax.pad(x, zero, [(0, 0, 0), *inner, (0, 0, 0)])
    return convolution(x, kernel, bias, padding="VALID", dilation=dilation)


def _transposed_edges(padding, window, stride) -> _window.Pairs:
    """The zeros at the edges of the spread input, d (k - 1) - p, so that "VALID" does the rest."""
    if isinstance(padding, str):
        _window.pads("transposed_convolution", padding, window, window, stride)
        if padding.upper() == "VALID":
            return tuple((k - 1, max(k, s) - 1) for k, s in zip(window, stride, strict=True))
        edges = [
            (k - 1 if s >= k else -(-(k + s - 2) // 2), k + s - 2)
            for k, s in zip(window, stride, strict=True)
        ]
        return tuple((before, total - before) for before, total in edges)
    cut = _window.pads("transposed_convolution", padding, window, window, stride)
    if any(max(p) > k - 1 for p, k in zip(cut, window, strict=True)):
        raise ValueError(
            f"transposed_convolution: padding is {padding!r} for a window of {tuple(window)}; "
            "expected at most the window less one at each edge."
        )
    return tuple((k - 1 - p[0], k - 1 - p[1]) for p, k in zip(cut, window, strict=True))


def _check_operands(what: str, x: jax.Array, kernel: jax.Array) -> None:
    if kernel.ndim < 3 or x.ndim != kernel.ndim or x.dtype != kernel.dtype:
        raise ValueError(
            f"{what}: x is {x.dtype}{list(x.shape)} and the kernel {kernel.dtype}"
            f"{list(kernel.shape)}; expected (N, *space, C) and (*window, C, F) with as many axes "
            "of space, in one dtype: add a batch axis with x[None], or cast with tree.cast."
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
    form: str = "auto",
    use_bias: bool = True,
    kernel_init: str | Initializer = "lecun_normal",
    bias_init: str | Initializer = "zeros",
) -> Module:
    """A convolutional layer of `features` kernels; 1-D, 2-D or 3-D as its input is. Row F03.

    Parameters: `kernel` (*kernel_size, C / groups, features) and `bias` (features,), in the
    input's dtype. Names and default initial values are those of Flax's `Conv`.

    Args:
      features: F, the number of kernels and of output channels.
      kernel_size: the window, for all axes of space or for each. For sequences (N, L, C) give one
        of one axis, such as `(3,)`.
      stride, padding, dilation, groups, flip, form: as for `convolution`.
      use_bias: whether to add b.
      kernel_init, bias_init: a name from `nn.INITIALIZERS`, or `(key, shape, dtype) -> array`.

    Returns:
      A `Module` from (N, *space, C) to (N, *positions, F).

    Raises:
      ValueError: a size is no positive integer; an initializer's name is unknown; at init, the
        input is not floating-point, has no spatial axis or does not fit; or it is (N, L, L), L at
        least 8, with an integer `kernel_size`, as images without an axis of channels are. Where
        (N, L, C) is not square but may be images, there is a warning.
    """
    _check.positive("conv", features=features, groups=groups)
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    options |= dict(flip=flip, form=form)
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
    """A transposed convolution as a layer ("deconvolution"). Lecture row F14.

    Parameters: `kernel` (*kernel_size, C, features) and `bias` (features,). Names, default initial
    values and named paddings are those of Flax's `ConvTranspose`; explicit padding p is what is cut
    from the output, where Flax's is what is added to the input, k - 1 - p.

    Args:
      features: F, the number of output channels.
      kernel_size: the window, for all axes of space or for each. For sequences (N, L, C) give one
        of one axis, such as `(3,)`.
      stride, padding, dilation, flip: as for `transposed_convolution`.
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
    """The factory of both layers; `operation(x, kernel, bias, **options)` is their mathematics."""
    make_kernel, make_bias = initializer(kernel_init), initializer(bias_init)
    for name in ("kernel_size", "stride", "dilation"):
        value = {"kernel_size": kernel_size, **options}[name]
        _check.per_axis(kind, name, value, 1 if isinstance(value, int) else len(value))
    groups = options.get("groups", 1)

    def init(key, x):
        _check.floating(kind, x, min_ndim=3)
        if x.ndim == 3 and x.shape[1] == x.shape[2] >= 8 and isinstance(kernel_size, int):
            raise ValueError(
                f"{kind}: input {x.shape} has one axis of space and as many channels; expected "
                "(N, H, W, C) for images: add an axis of channels, x[..., None]. For sequences, "
                f"give one size for one axis: kernel_size=({kernel_size},)."
            )
        _check.warn_of_images(kind, "kernel_size", kernel_size, x)
        window = _check.per_axis(kind, "kernel_size", kernel_size, x.ndim - 2)
        shape = (*window, x.shape[-1] // groups, features)
        params = {"kernel": make_kernel(named_key(key, "kernel"), shape, x.dtype)}
        if use_bias:
            params["bias"] = make_bias(named_key(key, "bias"), (features,), x.dtype)
        jax.eval_shape(lambda p: apply(p, {}, x), params)
        return params, {}

    def apply(params, state, x, **_):
        bias = params["bias"] if use_bias else None
        return operation(x, params["kernel"], bias, **options), state

    config = {"features": features, "kernel_size": kernel_size, **options, "use_bias": use_bias}
    return Module(init, apply, kind, config)
