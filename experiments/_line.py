"""A number as a slide prints it beside the library's, and whether they agree."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Line(NamedTuple):
    """A number of a slide and the library's.

    Attributes:
      what: what is computed.
      slide: as printed; None where the slide leaves it to a figure or to the reader.
      ours: the library's.
      note: why they differ, or what else is to be said.
    """

    what: str
    slide: Any
    ours: Any
    note: str = ""

    @property
    def agrees(self) -> bool | None:
        """Whether ours is the slide's, rounded as it is printed; None where nothing is printed."""
        if self.slide is None:
            return None
        printed = np.asarray(self.slide, np.float64)
        found = np.asarray(self.ours, np.float64)
        return printed.shape == found.shape and bool(np.all(np.abs(found - printed) <= self.unit))

    @property
    def unit(self) -> float:
        """Half of the last printed digit."""
        texts = [repr(float(v)) for v in np.asarray(self.slide, np.float64).ravel()]
        places = max(len(text.split(".")[1].rstrip("0")) if "." in text else 0 for text in texts)
        return 0.5 * 10.0**-places + 1e-9
