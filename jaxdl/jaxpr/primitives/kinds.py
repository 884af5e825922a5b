"""Kinds of JAX's primitives: elementwise, linear, data movement, maxima.

Everything that reads programs takes its sets from here. A name that no supported JAX uses is
harmless. Add a new primitive to each set whose description applies. For operations in no set, `lrp`
and `deep_lift` raise an error, and `jaxdl.jaxpr.incremental` computes the whole output.
"""

from __future__ import annotations

ELEMENTWISE = frozenset(
    """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e
    bitcast_convert_type cbrt ceil clamp clz convert_element_type copy cos cosh digamma div eq
    eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igammac integer_pow is_finite le
    le_to lgamma log log1p log2 logistic lt lt_to max min mul mulhi ne neg nextafter not
    one_minus_square or polygamma population_count pow reduce_precision
    regularized_incomplete_beta rem round rsqrt select_n shift_left shift_right_arithmetic
    shift_right_logical sign sin sinh sqrt square sub tan tanh xor zeta""".split()
)
"""Each output element depends on the input elements at its own index."""
COMPLEX_PARTS = frozenset("complex conj imag real".split())
"""Elementwise conversions between complex numbers and their parts; linear over the reals."""
RESHAPING_CASTS = frozenset(["bitcast_convert_type"])
"""Elementwise only between types of the same width; otherwise an axis is added or removed."""
IDENTITIES = frozenset("copy_p stop_gradient".split())
"""The output equals the input."""

ADDITIONS = frozenset("add add_any sub".split())
MATMULS = frozenset("conv_general_dilated dot_general".split())
"""Products that sum over axes: what layers with weights consist of."""
BILINEAR = MATMULS | {"mul", "ragged_dot_general"}
"""Linear in each of the first two operands, while the other is constant."""
LINEAR = COMPLEX_PARTS | frozenset(
    "cumsum fft reduce_sum reduce_window_sum scatter-add scatter-sub".split()
)
"""Sums of one or several operands with constant weights, apart from `ADDITIONS` and `neg`."""
LINEAR_OPERANDS = {
    "custom_linear_solve": slice(-1, None),
    "select_and_gather_add": slice(0, 1),
    "select_and_scatter_add": slice(0, 1),
    "triangular_solve": slice(1, 2),
}
"""Operations that are linear in some operands while the others are constant: which operands."""
COMPLEX_LINEAR = frozenset("abs conv_general_dilated div dot_general mul neg".split())
"""Linear in a first complex operand, or its absolute value."""

DATA_MOVEMENT = frozenset(
    """broadcast_in_dim concatenate copy copy_p convert_element_type dynamic_slice
    dynamic_update_slice expand_dims gather name optimization_barrier pad reduce_precision reshape
    rev scatter select_n sharding_constraint slice split squeeze stack tile transpose
    unstack""".split()
)
"""Each output element is one of the input elements, or 0."""
LAYOUT_CHANGES = frozenset(
    "broadcast_in_dim convert_element_type expand_dims reshape squeeze transpose".split()
)
"""Data movement that `jax.vmap` and mixed precision insert between a product and its bias."""
INDEX_OPERANDS = {
    **dict.fromkeys(("select_n", "cond"), slice(0, 1)),
    **dict.fromkeys(
        """gather ragged_dot_general scatter scatter-add scatter-max scatter-min scatter-mul
        scatter-sub""".split(),
        slice(1, 2),
    ),
    "dynamic_slice": slice(1, None),
    "dynamic_update_slice": slice(2, None),
}
"""Operands that select among others, or say where values are moved to."""
SELECTED_OPERANDS = {
    **dict.fromkeys(
        ("dynamic_slice", "gather", "reduce_max", "reduce_min", "sort", "top_k"), slice(0, 1)
    ),
    **dict.fromkeys(("concatenate", "stack"), slice(None)),
    "select_n": slice(1, None),
}
"""Operations whose first output consists of elements of some operands, or of 0: which operands."""

MAXIMA = frozenset("cummax max reduce_max reduce_window_max scatter-max".split())
MINIMA = frozenset("cummin min reduce_min reduce_window_min scatter-min".split())
SORTS = frozenset("sort top_k".split())
MAX_LIKE = MAXIMA | MINIMA | SORTS
"""Each output element is an input element that is chosen by comparison."""

REDUCTIONS = tuple(
    "reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor".split()
)
ARG_REDUCTIONS = ("argmax", "argmin")
WINDOW_REDUCTIONS = ("reduce_window_max", "reduce_window_min", "reduce_window_sum")
CUMULATIVE = ("cumprod", "cumlogsumexp")
"""Running products and sums whose axis and direction are read."""

CALLS = frozenset(
    """jit pjit closed_call core_call remat remat2 checkpoint custom_jvp_call custom_vjp_call
    custom_vjp_call_jaxpr""".split()
)
"""Primitives that only call a function."""
LOOPS = ("scan", "cond")
"""Loops and conditions, whose bodies stay separate programs."""
