"""From a network's scores to a sequence: greedy choice, sampling, beam search, CTC."""

from jaxdl.decode.ctc import collapse, ctc_beam, ctc_greedy
from jaxdl.decode.search import Decoded, beam, greedy, sample

__all__ = ["Decoded", "beam", "collapse", "ctc_beam", "ctc_greedy", "greedy", "sample"]
