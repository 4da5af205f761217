"""Stereo sound as float arrays, and WAV files of 16-bit PCM."""

from __future__ import annotations

import io
import wave
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = npt.NDArray[np.float64]  # shape (n,) for one channel, (n, 2) for stereo, range -1 … 1

SAMPLE_RATE = 44_100
_FULL_SCALE = 32_767


def encode_wav(stereo: Samples) -> bytes:
    """Return a WAV file of (n, 2) samples; values beyond full scale are clipped."""
    pcm = np.round(np.clip(stereo, -1, 1) * _FULL_SCALE).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE)
        writer.writeframes(pcm.tobytes())
    return buffer.getvalue()


def decode_wav(data: bytes) -> Samples:
    """Return the (n, 2) samples of a WAV file that `encode_wav` could have written.

    Raises:
        ValueError: Not 16-bit stereo at 44.1 kHz.
    """
    with wave.open(io.BytesIO(data), "rb") as reader:
        shape = (reader.getnchannels(), reader.getsampwidth(), reader.getframerate())
        if shape != (2, 2, SAMPLE_RATE):
            raise ValueError(f"expected 16-bit stereo at {SAMPLE_RATE} Hz, got (channels, bytes, rate) {shape}")
        pcm = np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2")
    return pcm.reshape(-1, 2).astype(np.float64) / _FULL_SCALE


def duration_s(stereo: Samples) -> float:
    """Return the length in seconds, to the millisecond."""
    return round(len(stereo) / SAMPLE_RATE, 3)


def fade_ends(stereo: Samples, seconds: float) -> Samples:
    """Return the sound with its last `seconds` faded out, so that it ends without a click."""
    count = min(len(stereo), round(seconds * SAMPLE_RATE))
    ramp = np.ones(len(stereo))
    if count:
        ramp[-count:] = np.linspace(1, 0, count) ** 2
    faded: Samples = stereo * ramp[:, None]
    return faded
