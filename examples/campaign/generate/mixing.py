"""Mixes music and effects to a loudness target.

Source: ITU-R BS.1770-4 (integrated loudness, true peak by four-fold oversampling).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyloudnorm  # type: ignore[import-untyped]
from scipy import ndimage, signal  # type: ignore[import-untyped]

from examples.campaign.generate.wav import SAMPLE_RATE, Samples

LOUDNESS_LUFS = -16.0  # what mobile games and podcasts aim at
TRUE_PEAK_DBTP_MAX = -1.0
BOOST_MIN, BOOST_MAX = 0.1, 4.0

_CEILING = 10 ** ((TRUE_PEAK_DBTP_MAX - 0.1) / 20)  # 0.1 dB of room for the rounding to 16 bits
_LOOKAHEAD = round(0.008 * SAMPLE_RATE)
_TOLERANCE_LU = 0.05
_ROUNDS_MAX = 6  # limiting costs loudness; each round makes up for what the last one took
_DUCK = 0.45  # how far the music steps back behind a loud effect
_CUES = (  # share of the music's length, effect
    (0.06, "click"),
    (0.19, "score"),
    (0.31, "score"),
    (0.44, "tick"),
    (0.50, "tick"),
    (0.58, "win"),
    (0.80, "lose"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A finished mix and what was measured on it."""

    stereo: Samples
    target_lufs: float
    loudness_lufs: float
    true_peak_dbtp: float
    cues: tuple[tuple[float, str], ...]  # start in seconds, effect


def mix(music: Samples, effects: Mapping[str, Samples], volume_boost: float) -> Mix:
    """Return music with the effects at their cues, at −16 LUFS plus 20·log10(boost) dB, peaks below −1 dBTP.

    Raises:
        ValueError: The boost lies outside 0.1 … 4.
    """
    if not BOOST_MIN <= volume_boost <= BOOST_MAX:
        raise ValueError(f"volumeBoost must be from {BOOST_MIN:g} to {BOOST_MAX:g}, got {volume_boost:g}")
    target = LOUDNESS_LUFS + 20 * math.log10(volume_boost)
    cues = tuple((round(share * len(music) / SAMPLE_RATE, 3), name) for share, name in _CUES if name in effects)
    voices = _lay_out(cues, effects, len(music))
    blended = music * _ducking(voices)[:, None] + voices * 0.8
    final = _to_loudness(blended, target)
    return Mix(
        stereo=final,
        target_lufs=round(target, 2),
        loudness_lufs=round(loudness_lufs(final), 2),
        true_peak_dbtp=round(true_peak_dbtp(final), 2),
        cues=cues,
    )


def loudness_lufs(stereo: Samples) -> float:
    """Return the integrated loudness in LUFS."""
    return float(pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(stereo))


def true_peak_dbtp(stereo: Samples) -> float:
    """Return the highest peak between and at samples, in dB relative to full scale."""
    return float(20 * np.log10(max(np.max(_peaks(stereo)), 1e-9)))


def _lay_out(cues: Sequence[tuple[float, str]], effects: Mapping[str, Samples], length: int) -> Samples:
    track = np.zeros((length, 2))
    for start_s, name in cues:
        start = round(start_s * SAMPLE_RATE)
        kept = effects[name][: max(0, length - start)]
        track[start : start + len(kept)] += kept
    return track


def _ducking(voices: Samples) -> Samples:
    """The music's level over time: it steps back where effects sound, within 60 ms and softly."""
    level = ndimage.maximum_filter1d(np.max(np.abs(voices), axis=1), size=round(0.06 * SAMPLE_RATE))
    smooth = ndimage.uniform_filter1d(level, size=round(0.12 * SAMPLE_RATE))
    duck: Samples = 1 - _DUCK * np.clip(smooth, 0, 1)
    return duck


def _to_loudness(stereo: Samples, target: float) -> Samples:
    """Raise and limit until the target is met, or the limiter leaves no way to get louder."""
    gain_db = target - loudness_lufs(stereo)
    limited = _limit(stereo * 10 ** (gain_db / 20))
    for _ in range(_ROUNDS_MAX):
        missing = target - loudness_lufs(limited)
        if abs(missing) <= _TOLERANCE_LU:
            break
        gain_db += missing
        limited = _limit(stereo * 10 ** (gain_db / 20))
    return limited


def _limit(stereo: Samples) -> Samples:
    """Turn down around every true peak above the ceiling; the gain moves smoothly and in time."""
    needed = np.minimum(1.0, _CEILING / np.maximum(_peaks(stereo), 1e-9))
    if float(np.min(needed)) >= 1.0:
        return stereo
    held = ndimage.minimum_filter1d(needed, size=2 * _LOOKAHEAD + 1)
    window = signal.windows.hann(2 * _LOOKAHEAD + 1)
    gain = ndimage.convolve1d(held, window / np.sum(window))
    limited: Samples = stereo * gain[:, None]
    return limited


def _peaks(stereo: Samples) -> Samples:
    """For each sample the larger channel's highest value until the next one, four times oversampled."""
    fine = np.abs(signal.resample_poly(stereo, 4, 1, axis=0))
    peaks: Samples = np.max(fine.reshape(len(stereo), -1), axis=1)
    return peaks
