"""Decoding of sequences from logits: greedy, sampling, beam search, CTC."""

from jaxdl.decode.ctc import collapse, ctc_beam, ctc_greedy
from jaxdl.decode.search import Decoded, beam, greedy, sample

__all__ = ["Decoded", "beam", "collapse", "ctc_beam", "ctc_greedy", "greedy", "sample"]
