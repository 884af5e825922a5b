"""The geometry that convolution and pooling share: where a sliding window may stand."""

from __future__ import annotations

from collections.abc import Sequence

from jaxdl.core import suggest

Padding = str | int | Sequence[int | tuple[int, int]]
"""A name, or cells added at the edges: for all axes, for each axis, or (before, after) for each."""

Pairs = tuple[tuple[int, int], ...]


def pads(
    layer: str,
    padding: Padding,
    sizes: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    names: Sequence[str] = ("SAME", "VALID"),
) -> Pairs:
    """The cells added before and after each axis.

    "VALID" adds none; "SAME" as many as make the output ceil(size / stride) long, the odd one
    after; "CIRCULAR" as many as "SAME" at stride 1, whatever the stride, the odd one after.

    Args:
      window: the window's extent, dilation included.
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
    """The cells that a dilated window spans: (k - 1) d + 1."""
    return tuple((k - 1) * d + 1 for k, d in zip(window, dilation, strict=True))


def positions(
    layer: str, sizes: Sequence[int], window: Sequence[int], stride: Sequence[int], padding: Pairs
) -> tuple[int, ...]:
    """The number of places of a window: floor((n + 2p - k) / s) + 1. Lecture row F04."""
    counts = tuple(
        (n + sum(p) - k) // s + 1 for n, k, s, p in zip(sizes, window, stride, padding, strict=True)
    )
    if min(counts, default=1) < 1:
        raise ValueError(
            f"{layer}: a window of {tuple(window)} does not fit into an input of {tuple(sizes)} "
            f"padded by {padding}; use a smaller window or more padding."
        )
    return counts
