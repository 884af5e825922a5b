"""Geometry of sliding windows for convolution and pooling: padding and output sizes."""

from __future__ import annotations

from collections.abc import Sequence

from jaxdl.core import suggest

Padding = str | int | Sequence[int | tuple[int, int]]
"""A name, or the padding at the edges: one integer, or for each axis an integer or a pair."""

Pairs = tuple[tuple[int, int], ...]


def pads(
    layer: str,
    padding: Padding,
    sizes: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    names: Sequence[str] = ("SAME", "VALID"),
) -> Pairs:
    """Returns the padding (before, after) of each spatial axis.

    "VALID" is no padding. "SAME" pads to an output of ceil(size / stride) positions. "CIRCULAR"
    pads by the amount of "SAME" at stride 1, for every stride. An odd cell is added after.

    Args:
      window: the extent of the window, including dilation.
    """
    if isinstance(padding, str):
        if padding.upper() not in names:
            raise ValueError(
                f"{layer}: no padding {padding!r}; {suggest(padding.upper(), names, 'paddings')}"
            )
        if padding.upper() == "VALID":
            return tuple((0, 0) for _ in sizes)
        if padding.upper() == "CIRCULAR":
            return tuple(((k - 1) // 2, k // 2) for k in window)
        totals = [
            max((-(-n // s) - 1) * s + k - n, 0)
            for n, k, s in zip(sizes, window, stride, strict=True)
        ]
        return tuple((total // 2, total - total // 2) for total in totals)
    each = [padding] * len(sizes) if isinstance(padding, int) else list(padding)
    pairs = tuple((p, p) if isinstance(p, int) else tuple(p) for p in each)
    if len(pairs) != len(sizes) or any(len(p) != 2 or min(p) < 0 for p in pairs):
        raise ValueError(
            f"{layer}: padding is {padding!r}; expected one of {', '.join(names)}, an integer >= 0,"
            f" or for each of the {len(sizes)} axes an integer or a pair (before, after)."
        )
    return tuple((p[0], p[1]) for p in pairs)


def extent(window: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Computes the extent of a dilated window: (k - 1) d + 1."""
    return tuple((k - 1) * d + 1 for k, d in zip(window, dilation, strict=True))


def positions(
    layer: str, sizes: Sequence[int], window: Sequence[int], stride: Sequence[int], padding: Pairs
) -> tuple[int, ...]:
    """Computes the number of positions of a window: floor((n + 2p - k) / s) + 1."""
    counts = tuple(
        (n + sum(p) - k) // s + 1 for n, k, s, p in zip(sizes, window, stride, padding, strict=True)
    )
    if min(counts, default=1) < 1:
        raise ValueError(
            f"{layer}: a window of {tuple(window)} does not fit into an input of {tuple(sizes)} "
            f"padded by {padding}. Use a smaller window or more padding."
        )
    return counts
