"""The sound effects of the game, in the timbre and key of a style."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from examples.campaign.generate.json_values import seed_from
from examples.campaign.generate.score import Score, score_for
from examples.campaign.generate.synth import drum, note, room, sweep
from examples.campaign.generate.wav import SAMPLE_RATE, Samples, fade_ends

EFFECT_NAMES = ("click", "score", "tick", "win", "lose")
_PEAK = 0.8


def play_effects(style: str) -> dict[str, Samples]:
    """Return each effect as stereo sound, by name, in the order of `EFFECT_NAMES`."""
    score = score_for(style)
    random = np.random.default_rng(seed_from("effects", score.style))
    third = 3 if score.minor else 4
    dry = {
        "click": _click(score, random),
        "score": _notes(score, ((0.0, 12 + 7, 0.07), (0.08, 12 + 12, 0.22)), 0.55),
        "tick": _notes(score, ((0.0, 24, 0.03),), 0.16),
        "win": _win(score, third, random),
        "lose": _lose(score, random),
    }
    return {name: _finish(dry[name], score, random) for name in EFFECT_NAMES}


def _click(score: Score, random: np.random.Generator) -> Samples:
    sound = _overlay(0.18, [(0.0, drum("rim", random), 1.0), (0.0, sweep(1_400, 500, 0.08, 0.02), 0.5)])
    return sound + _notes(score, ((0.01, 19, 0.04),), 0.18) * 0.4


def _win(score: Score, third: int, random: np.random.Generator) -> Samples:
    """A rising fanfare that ends on a held chord."""
    beat_s = 0.13
    run = tuple((index * beat_s, tone, beat_s) for index, tone in enumerate((0, third, 7, 12, 12 + third)))
    last_s = beat_s * 5
    chord = tuple((last_s, tone, 0.7) for tone in (0, 7, 12, 12 + third, 19))
    fanfare = _notes(score, run + chord, 2.0)
    return fanfare + _overlay(2.0, [(last_s, drum("cymbal", random), 0.35), (last_s, drum("kick", random), 0.7)])


def _lose(score: Score, random: np.random.Generator) -> Samples:
    """Four steps down, then a low thud that sinks."""
    fall = tuple((index * 0.2, tone, 0.19) for index, tone in enumerate((7, 6, 5, 3)))
    sound = _notes(score, fall, 1.7)
    return sound + _overlay(1.7, [(0.8, sweep(180, 45, 0.8, 0.3), 0.7), (0.8, drum("taiko", random), 0.4)])


def _notes(score: Score, notes: Iterable[tuple[float, int, float]], seconds: float) -> Samples:
    """Notes of (start in seconds, semitones above the key's root, held seconds), in the style's lead voice."""
    played = [(start_s, note(score.lead_voice, score.root + tone, held_s), 0.6) for start_s, tone, held_s in notes]
    return _overlay(seconds, played)


def _overlay(seconds: float, sounds: Iterable[tuple[float, Samples, float]]) -> Samples:
    """Sounds of (start in seconds, sound, level) on a track of a fixed length; what reaches beyond is cut."""
    track = np.zeros((round(seconds * SAMPLE_RATE), 2))
    for start_s, sound, level in sounds:
        start = round(start_s * SAMPLE_RATE)
        kept = sound[: max(0, len(track) - start)]
        track[start : start + len(kept)] += kept * level
    return track


def _finish(dry: Samples, score: Score, random: np.random.Generator) -> Samples:
    """A little room, a clean end, one peak level for all effects."""
    echo = room(0.35, random)
    size = len(dry) + len(echo) - 1
    wet = np.fft.irfft(np.fft.rfft(dry, size, axis=0) * np.fft.rfft(echo, size, axis=0), size, axis=0)[: len(dry)]
    sound = fade_ends(dry + wet * min(score.room_level, 0.2), 0.04)
    level: Samples = sound * (_PEAK / np.max(np.abs(sound)))
    return level
