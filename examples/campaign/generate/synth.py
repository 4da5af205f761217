"""Single sounds: pitched notes from wavetables, drums from sines and filtered noise, rooms from noise."""

from __future__ import annotations

import numpy as np

from examples.campaign.generate.score import Voice
from examples.campaign.generate.wav import SAMPLE_RATE, Samples

_TABLE_SIZE = 2_048
_NYQUIST_SHARE = 0.45  # overtones above this share of the sample rate are left out, so nothing aliases


def frequency_hz(midi: float) -> float:
    """Return the pitch of a MIDI note number (69 = 440 Hz)."""
    return float(440.0 * 2.0 ** ((midi - 69) / 12))


def note(voice: Voice, midi: float, held_s: float) -> Samples:
    """Return one stereo note, `held_s` long plus its release, at about half of full scale."""
    total = round((held_s + voice.release_s) * SAMPLE_RATE)
    envelope = _envelope(voice, held_s, total)
    table = _wavetable(voice.wave, voice.brightness, frequency_hz(midi))
    if not voice.detune_cents:
        mono = 0.5 * envelope * _play(table, frequency_hz(midi), total, 0.0)
        return np.stack([mono, mono], axis=1)
    half = voice.detune_cents / 200
    middle = _play(table, frequency_hz(midi), total, 0.37)
    left = _play(table, frequency_hz(midi - half), total, 0.0)
    right = _play(table, frequency_hz(midi + half), total, 0.71)
    stereo = np.stack([0.6 * middle + 0.7 * left, 0.6 * middle + 0.7 * right], axis=1)
    shaped: Samples = 0.4 * stereo * envelope[:, None]
    return shaped


def drum(name: str, random: np.random.Generator) -> Samples:
    """Return one stereo drum hit.

    Raises:
        ValueError: No such drum.
    """
    match name:
        case "kick":
            mono = _thump(0.32, 150, 46, 0.09, random)
        case "taiko":
            mono = 1.5 * _thump(0.9, 120, 52, 0.24, random) + 0.25 * _noise(0.9, 80, 600, 0.08, random)
        case "snare":
            mono = 0.7 * _noise(0.25, 900, 9_000, 0.06, random) + 0.45 * _thump(0.25, 260, 180, 0.05, random)
        case "clap":
            mono = 0.9 * _noise(0.22, 800, 6_500, 0.045, random)
            for delay_s in (0.010, 0.021):
                mono += 0.5 * _delayed(_noise(0.22, 900, 7_000, 0.012, random), delay_s)
        case "hat":
            mono = 0.34 * _noise(0.09, 7_000, 16_000, 0.022, random)
        case "shaker":
            mono = 0.22 * _noise(0.14, 4_500, 12_000, 0.04, random)
        case "rim":
            mono = 0.5 * _noise(0.08, 1_200, 3_000, 0.012, random)
        case "cymbal":
            mono = 0.4 * _noise(2.6, 3_500, 15_000, 0.7, random)
        case _:
            raise ValueError(f"no drum named {name!r}")
    return np.stack([mono, mono], axis=1)


def sweep(start_hz: float, end_hz: float, seconds: float, decay_s: float) -> Samples:
    """Return a stereo sine that glides from one pitch to another while it fades."""
    count = round(seconds * SAMPLE_RATE)
    share = np.linspace(0, 1, count)
    pitch = start_hz * (end_hz / start_hz) ** share
    mono = np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE) * np.exp(-share * seconds / decay_s)
    return np.stack([mono, mono], axis=1)


def room(seconds: float, random: np.random.Generator) -> Samples:
    """Return the stereo echo of a room: dark noise that falls by 60 dB in `seconds`, unit energy a channel."""
    count = round(seconds * SAMPLE_RATE)
    fall = np.exp(-6.9 * np.arange(count) / count)
    sides = [_band(random.standard_normal(count), 150, 5_500) * fall for _ in range(2)]
    return np.stack([side / np.sqrt(np.sum(side**2)) for side in sides], axis=1)


def _envelope(voice: Voice, held_s: float, total: int) -> Samples:
    """Rise over the attack, decay towards the sustain level, fall to nothing over the release."""
    time_s = np.arange(total) / SAMPLE_RATE
    rise = np.clip(time_s / voice.attack_s, 0, 1)
    decay = voice.sustain + (1 - voice.sustain) * np.exp(-np.maximum(time_s - voice.attack_s, 0) / voice.decay_s)
    release = np.clip(1 - (time_s - held_s) / max(voice.release_s, 1e-3), 0, 1) ** 2
    shaped: Samples = rise * decay * np.where(time_s > held_s, release, 1.0)
    return shaped


def _wavetable(wave: str, brightness: float, pitch_hz: float) -> Samples:
    """One period with only the overtones that fit below the Nyquist limit, peak 1."""
    count = max(1, min(96, int(_NYQUIST_SHARE * SAMPLE_RATE / pitch_hz)))
    order = np.arange(1, count + 1)
    match wave:
        case "saw":
            strength = 1.0 / order
        case "square":
            strength = np.where(order % 2 == 1, 1.0 / order, 0.0)
        case "triangle":
            strength = np.where(order % 2 == 1, 1.0 / order**2, 0.0)
        case "bell":
            strength = np.where(np.isin(order, (1, 3, 4, 9)), 1.0 / order**0.9, 0.0)
        case _:
            strength = np.where(order == 1, 1.0, 0.0)
    spectrum = np.zeros(_TABLE_SIZE // 2 + 1, dtype=np.complex128)
    spectrum[1 : count + 1] = -1j * strength / (1 + (order / brightness) ** 2)
    table = np.fft.irfft(spectrum, _TABLE_SIZE)
    normal: Samples = table / np.max(np.abs(table))
    return normal


def _play(table: Samples, pitch_hz: float, count: int, phase: float) -> Samples:
    """Read the table at a pitch, with linear interpolation."""
    position = ((phase + np.arange(count) * (pitch_hz / SAMPLE_RATE)) % 1.0) * _TABLE_SIZE
    index = position.astype(np.int64)
    share = position - index
    played: Samples = table[index % _TABLE_SIZE] * (1 - share) + table[(index + 1) % _TABLE_SIZE] * share
    return played


def _thump(seconds: float, start_hz: float, end_hz: float, decay_s: float, random: np.random.Generator) -> Samples:
    """A membrane: a sine that drops in pitch, with a short click of noise at its start."""
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = end_hz + (start_hz - end_hz) * np.exp(-time_s / 0.03)
    body = np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE) * np.exp(-time_s / decay_s)
    click = random.standard_normal(len(time_s)) * np.exp(-time_s / 0.002) * 0.12
    thump: Samples = (body + click) * np.clip((seconds - time_s) / 0.02, 0, 1)
    return thump


def _noise(seconds: float, low_hz: float, high_hz: float, decay_s: float, random: np.random.Generator) -> Samples:
    """Band-limited noise that decays, about full scale at its start."""
    count = round(seconds * SAMPLE_RATE)
    time_s = np.arange(count) / SAMPLE_RATE
    band = _band(random.standard_normal(count), low_hz, high_hz)
    hiss: Samples = 0.5 * band / np.std(band) * np.exp(-time_s / decay_s) * np.clip((seconds - time_s) / 0.01, 0, 1)
    return hiss


def _band(sound: Samples, low_hz: float, high_hz: float) -> Samples:
    """Keep what lies between two frequencies, with soft edges."""
    spectrum = np.fft.rfft(sound)
    frequency = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    keep = 1 / (1 + (low_hz / np.maximum(frequency, 1)) ** 6) / (1 + (frequency / high_hz) ** 6)
    filtered: Samples = np.fft.irfft(spectrum * keep, len(sound))
    return filtered


def _delayed(sound: Samples, delay_s: float) -> Samples:
    """The sound moved later, its end cut so that the length stays."""
    shift = round(delay_s * SAMPLE_RATE)
    return np.concatenate([np.zeros(shift), sound[: len(sound) - shift]])
