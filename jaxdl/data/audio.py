"""WAV files and log-mel features."""

from __future__ import annotations

import io
import os
import pathlib
import struct
import warnings

import numpy as np

from jaxdl.data._files import read_up_to

__all__ = ["log_mel", "mel_filters", "read_wav"]


def read_wav(path: str | os.PathLike, *, limit: int = 64 * 2**20) -> tuple[np.ndarray, int]:
    """Reads a WAV file of integer or floating-point samples with any number of channels.

    The formats are PCM of 8 to 32 bits and IEEE float of 32 and 64 bits, with a plain or an
    extensible header (Microsoft, "Multiple channel audio data and WAVE files", 2001).

    Args:
      path: the file.
      limit: largest allowed size of the file in bytes.

    Returns:
      `(samples, rate)`: float32, (T,) or (T, C) with several channels; rate in Hz. Integers are
      scaled to [-1, 1); floats are unchanged.

    Raises:
      ValueError: the file is larger than `limit`, of another format such as A-law, or damaged; or
        it has fewer samples than its header states, or samples that are not finite.
    """
    from scipy.io import wavfile

    path = pathlib.Path(path)
    with open(path, "rb") as file:
        content = read_up_to(file, limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path.name}: more than {limit} bytes; expected a smaller file; cut it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks without sound
            rate, samples = wavfile.read(_Whole(content))
    except (ValueError, TypeError, ArithmeticError, EOFError, struct.error, LookupError) as error:
        raise ValueError(
            f"{path.name}: no complete WAV file of PCM or IEEE float samples ({error}); get it "
            "again, or convert it to PCM."
        ) from error
    except UnboundLocalError as error:  # SciPy's reader, for a file without a data chunk
        raise ValueError(f"{path.name}: a WAV file without samples; get it again.") from error
    if samples.dtype == np.uint8:
        samples = samples.astype(np.float32) / 128 - 1
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / 2.0 ** (8 * samples.dtype.itemsize - 1)
    with np.errstate(over="ignore"):  # infinite numbers raise below
        samples = samples.astype(np.float32)
    if rate < 1 or not np.all(np.isfinite(samples)):
        raise ValueError(
            f"{path.name}: a rate of {rate} Hz, and {np.sum(~np.isfinite(samples))} samples that "
            "are NaN or infinite; expected a positive rate and finite samples. Get it again."
        )
    return samples, rate


class _Whole(io.BytesIO):
    """A file in memory that raises if a read returns fewer bytes than requested.

    SciPy's reader accepts a truncated file otherwise, with fewer samples than its header states.
    """

    def read(self, size=-1):
        content = super().read(size)
        # An empty read of 4 bytes is the regular end: the reader looks for the next chunk's name.
        if len(content) < size and (content or size != 4):
            raise EOFError(f"{size} bytes expected, {len(content)} there")
        return content


def mel_filters(bands: int, size: int, rate: int, *, low: float = 0.0) -> np.ndarray:
    """Returns triangular filters, evenly spaced in mel: m = 2595 log10(1 + f / 700).

    The HTK scale (O'Shaughnessy 1987). Each triangle rises from the peak of its left neighbour to 1
    at its own peak, and falls to the peak of its right neighbour.

    Args:
      bands: M, the number of triangles.
      size: length of the Fourier transform.
      rate: samples per second.
      low: lowest frequency in Hz; the highest is rate / 2.

    Returns:
      (size // 2 + 1, M) float32.

    Raises:
      ValueError: `bands` or `size` is below 1, `low` is not in [0, rate / 2), or a triangle is
        between two frequencies of the transform, so that its output is always 0.
    """
    if bands < 1 or size < 1 or not 0 <= low < rate / 2:
        raise ValueError(
            f"mel_filters: bands={bands}, size={size}, low={low}, rate={rate}; expected at least "
            "one band and one sample, and a lowest frequency in [0, rate / 2)."
        )
    ends = 2595 * np.log10(1 + np.array([low, rate / 2]) / 700)
    peaks = 700 * (10 ** (np.linspace(ends[0], ends[1], bands + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(size, 1 / rate)[:, None]
    rising = (frequencies - peaks[:-2]) / (peaks[1:-1] - peaks[:-2])
    falling = (peaks[2:] - frequencies) / (peaks[2:] - peaks[1:-1])
    filters = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    if not np.all(np.any(filters, axis=0)):
        raise ValueError(
            f"mel_filters: some of {bands} bands are between two frequencies, {rate / size} Hz "
            "apart; use fewer bands or longer windows."
        )
    return filters


def log_mel(
    samples: np.ndarray,
    rate: int,
    *,
    bands: int = 40,
    window: float = 0.025,
    hop: float = 0.010,
    floor: float = 1e-6,
) -> np.ndarray:
    """Computes log-mel features, log(power in mel bands + floor), of short windows.

    Davis and Mermelstein 1980 (doi:10.1109/TASSP.1980.1163420), without their cosine transform.
    Hann windows; samples after the last complete window are ignored.

    Args:
      samples: (T,) in [-1, 1].
      rate: samples per second.
      bands: M, the number of mel bands.
      window: length of a window in seconds.
      hop: time between the starts of windows in seconds.
      floor: added to the power, so that the logarithm of silence is finite.

    Returns:
      (frames, M) float32, natural logarithm; frames is 0 for sounds shorter than a window.

    Raises:
      ValueError: samples are not (T,) floating-point, `hop` is not in (0, window], the window is
        shorter than a sample, or `floor` is not above 0; or see `mel_filters`.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating) or not 0 < hop <= window:
        raise ValueError(
            f"log_mel: samples are {samples.dtype}{list(samples.shape)}, window {window} and hop "
            f"{hop} s; expected floating-point (T,), one channel, and a hop in (0, window]."
        )
    length, step = round(window * rate), max(1, round(hop * rate))
    if length < 1 or not floor > 0:
        raise ValueError(
            f"log_mel: windows of {length} samples at rate {rate} and floor {floor}; expected at "
            "least one sample, and a floor above 0, because log(0) is infinite."
        )
    # A power of two, for the speed of the Fourier transform; the window is padded with zeros.
    size = 2 ** int(np.ceil(np.log2(length)))
    filters = mel_filters(bands, size, rate)
    if len(samples) < length:
        return np.zeros((0, bands), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)[::step]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    power = np.abs(np.fft.rfft(frames * hann, size)) ** 2
    return np.log(power @ filters + floor).astype(np.float32)
