"""Travel requests from a small grammar, with a slot label for each word.

A city after "arrive" is the destination and after "leave" the place of departure, so that the slot
of a city depends on the context. Example: "arrive Taipei on November 2nd".
"""

from __future__ import annotations

import jax
import numpy as np

__all__ = ["CITIES", "SLOTS", "requests"]

SLOTS = ("other", "dest", "departure", "time")
"""Names of the slots, in the order of their ids."""

CITIES = (
    *("Taipei", "Guangzhou", "Beijing", "Shanghai", "Tokyo", "Paris", "London", "Berlin"),
    *("Madrid", "Rome", "Vienna", "Zurich", "Boston", "Chicago", "Sydney", "Singapore"),
)
"""Cities of the requests."""

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
DAYS = ("1st", "2nd", "3rd", *(f"{day}th" for day in range(4, 21)))
OPENINGS = ("", "please", "I would like to", "I want to", "we will", "can I", "my plan is to")
VERBS = {1: ("arrive", "arrive in", "arrive at"), 2: ("leave", "leave from", "depart from")}
CLOSINGS = ("", "please", "with my family", "by train", "by plane", "if possible")


def requests(key: jax.Array, n: int) -> list[tuple[list[str], list[int]]]:
    """Draws requests with one verb, one city, often a date, and polite phrases.

    Arriving and leaving are equally likely for every city, so the city alone does not determine the
    slot.

    Args:
      key: a PRNG key.
      n: number of requests, at least 1.

    Returns:
      For each request its words and their slots, indices into `SLOTS`.

    Raises:
      ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"travel.requests: n is {n}; expected at least 1.")
    rng = np.random.default_rng(np.asarray(jax.random.bits(key, (4,), np.uint32)))

    def pick(options):
        return options[rng.integers(len(options))]

    drawn = []
    for _ in range(n):
        slot = int(rng.integers(1, 3))
        phrases = [(pick(OPENINGS), 0), (pick(VERBS[slot]), 0), (pick(CITIES), slot)]
        if rng.random() < 0.8:
            phrases += [("on", 0), (f"{pick(MONTHS)} {pick(DAYS)}", 3)]
        phrases.append((pick(CLOSINGS), 0))
        words = [(word, slot) for phrase, slot in phrases for word in phrase.split()]
        drawn.append(([word for word, _ in words], [slot for _, slot in words]))
    return drawn
