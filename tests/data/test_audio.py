import struct
import wave

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import signal

from jaxdl import data


def write(path, raw, *, channels=1, width=2, rate=8000):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(raw)
    return path


@pytest.mark.parametrize(
    "width, raw, expected",
    [
        (1, bytes([0, 128, 255]), [-1, 0, 127 / 128]),
        (2, struct.pack("<3h", -(2**15), 0, 2**14), [-1, 0, 0.5]),
        (3, b"\x00\x00\x80" + b"\x00" * 3 + b"\x00\x00\x40", [-1, 0, 0.5]),
        (4, struct.pack("<3i", -(2**31), 0, 2**30), [-1, 0, 0.5]),
    ],
)
def test_samples_of_every_width(tmp_path, width, raw, expected):
    samples, rate = data.read_wav(write(tmp_path / "a.wav", raw, width=width, rate=16000))
    assert rate == 16000 and samples.dtype == np.float32
    np.testing.assert_allclose(samples, expected)


def riff(form, raw, *, before=b"", after=b""):
    """A WAV file of chunks, each filled up to an even number of bytes."""
    chunk = lambda name, body: name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    body = b"WAVE" + before + chunk(b"fmt ", form) + chunk(b"data", raw) + after
    return b"RIFF" + struct.pack("<I", len(body)) + body


def header(tag, bits, *, channels=1, rate=8000, extensible=False):
    block = channels * bits // 8
    form = struct.pack("<HHIIH", 0xFFFE if extensible else tag, channels, rate, rate * block, block)
    form += struct.pack("<H", bits)
    if extensible:  # its size, the valid bits, the speakers, and the format as a GUID
        form += struct.pack("<HHIH", 22, bits, 3, tag) + bytes.fromhex(
            "000000001000800000aa00389b71"
        )
    return form


WAVE = np.array([-1, 0.5, 0, -0.25, 0.125, 0.75, -0.5, 0.25], np.float64)
PCM, FLOAT = 1, 3


def encoded(tag, bits):
    if tag == FLOAT:
        return WAVE.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return (WAVE * 128 + 128).astype(np.uint8).tobytes()
    whole = [int(v * 2 ** (bits - 1)).to_bytes(bits // 8, "little", signed=True) for v in WAVE]
    return b"".join(whole)


def test_every_format_of_integers_and_floats(tmp_path):
    """With a plain header, an extensible one, two channels, and chunks around it."""
    path = tmp_path / "a.wav"
    chunk = b"LIST" + struct.pack("<I", 5) + b"INFO\1\0"
    for tag, bits in ((PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64)):
        for extensible in (False, True):
            for channels in (1, 2):
                form = header(tag, bits, channels=channels, extensible=extensible)
                path.write_bytes(riff(form, encoded(tag, bits), before=chunk, after=chunk))
                samples, rate = data.read_wav(path)
                assert rate == 8000 and samples.dtype == np.float32
                expected = WAVE if channels == 1 else WAVE.reshape(-1, 2)
                np.testing.assert_array_equal(samples, expected, err_msg=f"{tag} {bits}")
    path.write_bytes(riff(header(FLOAT, 32), np.float32([2, -3]).tobytes()))
    assert data.read_wav(path)[0].tolist() == [2, -3]
    path.write_bytes(riff(header(PCM, 8), bytes([0, 128, 255]), after=chunk))  # an odd number
    np.testing.assert_array_equal(data.read_wav(path)[0], np.float32([-1, 0, 127 / 128]))


REFUSED = {
    "A-law": (riff(header(6, 8), bytes(8)), "ALAW"),
    "mu-law": (riff(header(7, 8, extensible=True), bytes(8)), "MULAW"),
    "ADPCM": (riff(header(2, 8), bytes(8)), "ADPCM"),
    "float of 16 bits": (riff(header(FLOAT, 16), bytes(8)), "16-bit floating-point"),
    "NaN": (riff(header(FLOAT, 32), np.float32([1, np.nan]).tobytes()), "1 samples that are NaN"),
    "no channels": (riff(header(PCM, 16, channels=0), bytes(8)), "a.wav"),
    "no rate": (riff(header(PCM, 16, rate=0), bytes(8)), "a rate of 0 Hz"),
    "half a sample": (riff(header(PCM, 16), bytes(3)), "a.wav"),
    "no samples": (riff(header(PCM, 16), b"")[:36], "a.wav"),
    "data before its format": (b"RIFF\x14\0\0\0WAVEdata\4\0\0\0\0\0\0\0", "a.wav"),
    "64-bit sizes": (
        b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<IQQQI", 28, 2**63, 2**63, 0, 0),
        "a.wav",
    ),
}


@pytest.mark.parametrize("content, words", REFUSED.values(), ids=REFUSED)
def test_other_formats_are_refused_by_name(tmp_path, content, words):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        data.read_wav(tmp_path / "a.wav")


def test_two_channels(tmp_path):
    path = write(tmp_path / "a.wav", struct.pack("<4h", 1, 2, 3, 4), channels=2)
    assert (data.read_wav(path)[0] * 2**15).tolist() == [[1, 2], [3, 4]]


def test_files_that_lie(tmp_path):
    path = write(tmp_path / "a.wav", struct.pack("<100h", *range(100)))
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    with pytest.raises(ValueError, match="a.wav"):
        data.read_wav(path)
    at = whole.index(b"data") + 4
    path.write_bytes(whole[:at] + struct.pack("<I", 2**31) + whole[at + 4 :])
    with pytest.raises(ValueError, match="a.wav"):
        data.read_wav(path)
    path.write_bytes(b"RIFF\x00\x00")
    with pytest.raises(ValueError, match="no complete WAV file"):
        data.read_wav(path)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        data.read_wav(path, limit=100)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.integers(0, 60), st.integers(0, 255), st.integers(0, 60))
def test_any_changed_byte_is_read_or_refused(tmp_path, at, byte, cut):
    path = write(tmp_path / "a.wav", struct.pack("<20h", *range(20)))
    content = bytearray(path.read_bytes())
    content[at] = byte
    path.write_bytes(bytes(content[: len(content) - cut]))
    try:
        samples, rate = data.read_wav(path)
    except ValueError as error:
        assert "a.wav" in str(error)
    else:
        assert np.all(np.isfinite(samples)) and samples.size <= 60 and rate > 0


def test_mel_filters_are_triangles_that_share_their_ends():
    filters = data.mel_filters(20, 512, 8000)
    assert filters.shape == (257, 20) and filters.min() == 0 and filters.max() <= 1
    peaks = np.argmax(filters, axis=0)
    assert np.all(np.diff(peaks) >= 0)
    mel = lambda f: 2595 * np.log10(1 + f / 700)
    centres = mel(peaks * 8000 / 512)
    assert np.abs(centres - np.linspace(0, mel(4000), 22)[1:-1]).max() < mel(8000 / 512)
    inside = filters[peaks[0] + 1 : peaks[-1]].sum(axis=1)
    np.testing.assert_allclose(inside, 1, atol=1e-5)  # neighbours add up to 1


def test_the_first_mel_band_begins_at_the_lowest_frequency():
    filters = data.mel_filters(10, 512, 8000, low=1000.0)
    frequencies = np.fft.rfftfreq(512, 1 / 8000)
    assert not filters[frequencies <= 1000].any()
    assert filters[(frequencies > 1000) & (frequencies < 1100), 0].all()


def test_log_mel_against_scipy():
    rng = np.random.default_rng(0)
    samples = rng.normal(size=4000).astype(np.float32) * 0.1
    actual = data.log_mel(samples, 8000, bands=26)
    _, _, spectrum = signal.stft(
        samples, 8000, window="hann", nperseg=200, noverlap=120, nfft=256, boundary=None,
        padded=False, scaling="spectrum",
    )  # fmt: skip
    power = np.abs(spectrum.T * 100) ** 2  # scipy divides by the window's sum, 100
    expected = np.log(power @ data.mel_filters(26, 256, 8000) + 1e-6)
    assert actual.shape == expected.shape == (1 + (4000 - 200) // 80, 26)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_a_tone_is_loud_in_its_own_band():
    t = np.arange(8000) / 8000
    filters = data.mel_filters(40, 256, 8000)
    for frequency in (300, 1000, 3000):
        loudest = np.argmax(data.log_mel(np.sin(2 * np.pi * frequency * t), 8000).mean(0))
        assert loudest == np.argmax(filters[round(frequency * 256 / 8000)])


def test_bad_sounds():
    with pytest.raises(ValueError, match="one channel"):
        data.log_mel(np.ones((9, 2)), 8000)
    with pytest.raises(ValueError, match="samples are int"):
        data.log_mel(np.ones(9, int), 8000)
    with pytest.raises(ValueError, match="bands=0"):
        data.mel_filters(0, 256, 8000)
    with pytest.raises(ValueError, match="some of 128 bands are between two"):
        data.mel_filters(128, 256, 8000)
    with pytest.raises(ValueError, match="windows of 0 samples"):
        data.log_mel(np.ones(9), 8000, window=1e-5, hop=1e-5)
    with pytest.raises(ValueError, match="floor 0.0; expected"):
        data.log_mel(np.zeros(400), 8000, floor=0.0)
    assert data.log_mel(np.ones(10), 8000).shape == (0, 40)
    for rate in (8000, 16000, 22050, 44100, 48000):
        assert data.log_mel(np.ones(rate), rate).shape == (98, 40)


def recordings():
    sounds = [np.full(100 + i, 0.1 * (i % 10), np.float32) for i in range(20)]
    speakers = ["a"] * 10 + ["b"] * 10
    return data.Recordings(sounds, np.arange(20, dtype=np.int32) % 10, speakers)


@pytest.mark.row("K06")
@pytest.mark.parametrize("augment", [False, True])
def test_strings_of_digits_are_drawn_by_the_key(augment):
    options = dict(shortest=2, longest=4, augment=augment)
    draw = lambda seed: data.digit_strings(jax.random.key(seed), recordings(), 30, **options)
    sounds, digits = draw(0)
    again, _ = draw(0)
    assert all(np.array_equal(a, b) for a, b in zip(sounds, again, strict=True))
    assert {len(row) for row in digits} == {2, 3, 4}
    assert any(not np.array_equal(a, b) for a, b in zip(digits, draw(1)[1], strict=True))
    for sound, row in zip(sounds, digits, strict=True):
        assert sound.dtype == np.float32 and len(sound) > 60 * len(row)
        if not augment:  # each digit's own level is in the sound as often as it was recorded
            level = np.round(sound, 2)
            assert all((np.abs(level - 0.1 * d) < 0.006).sum() >= 100 for d in row if d)
    with pytest.raises(ValueError, match="longest=1"):
        data.digit_strings(jax.random.key(0), recordings(), 3, shortest=2, longest=1)


def test_spoken_digits(data_root):
    parts = data.spoken_digits(data_root("fsdd"))
    assert len(parts["test"].sounds) == 300 and len(parts["train"].sounds) >= 300
    for part in parts.values():
        assert set(part.digits) == set(range(10)) and len(set(part.speakers)) == 6
        assert all(sound.ndim == 1 and np.abs(sound).max() <= 1 for sound in part.sounds)


def test_recordings_that_are_not_such(tmp_path):
    folder = tmp_path / "recordings"
    with pytest.raises(ValueError, match="no folder 'recordings'"):
        data.spoken_digits(tmp_path)
    folder.mkdir()
    with pytest.raises(ValueError, match="no recordings 0-4"):
        data.spoken_digits(tmp_path)
    write(folder / "3_ann_0.wav", b"\x00" * 20, rate=16000)
    with pytest.raises(ValueError, match="3_ann_0.wav has 16000 Hz"):
        data.spoken_digits(tmp_path)
    (folder / "3_ann_0.wav").rename(folder / "three.wav")
    with pytest.raises(ValueError, match="expected names such as"):
        data.spoken_digits(tmp_path)
