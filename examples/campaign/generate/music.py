"""The background music: a seamless loop played from a style's score, its melody from the title."""

from __future__ import annotations

import numpy as np

from examples.campaign.generate.json_values import seed_from
from examples.campaign.generate.score import STEPS_PER_BAR, Chord, Score, score_for
from examples.campaign.generate.synth import drum, note, room
from examples.campaign.generate.wav import SAMPLE_RATE, Samples

_PEAK = 0.84  # −1.5 dBFS: the mix sets the loudness later
_BASS_INTERVAL = {"0": 0, "5": 7, "8": 12}
_DRUM_LEVEL = {"x": 1.0, "o": 0.45}


def compose(style: str, title: str) -> Samples:
    """Return the stereo loop of a style; its end runs into its start, reverberation included."""
    score = score_for(style)
    random = np.random.default_rng(seed_from("music", score.style, title))
    length = round(score.duration_s * SAMPLE_RATE)
    drums = _drums(score, length, random) * 0.7
    bass = _at_strength(_bass(score, length), 0.09)
    pad = _at_strength(_pad(score, length), score.pad_level * 0.24) * _pump(score, length)[:, None]
    lead = _at_strength(_arpeggio(score, length), 0.045) + _at_strength(_melody(score, length, random), 0.075)
    wet = _reverberate(pad + lead + 0.35 * drums, score, random)
    glued = np.tanh((drums + bass + pad + lead + wet * score.room_level) * 1.2)
    peak: Samples = glued * (_PEAK / np.max(np.abs(glued)))
    return peak


def _chord(score: Score, bar: int) -> Chord:
    return score.chords[bar % len(score.chords)]


def _place(track: Samples, sound: Samples, start_s: float, level: float) -> None:
    """Add a sound to the loop; what reaches beyond the end continues at the start."""
    start = round(start_s * SAMPLE_RATE) % len(track)
    sound = sound[: len(track)] * level
    first = min(len(sound), len(track) - start)
    track[start : start + first] += sound[:first]
    track[: len(sound) - first] += sound[first:]


def _at_strength(track: Samples, rms: float) -> Samples:
    """The track at a root-mean-square level, so that no style's voices bury the others."""
    level: Samples = track * (rms / max(float(np.sqrt(np.mean(track**2))), 1e-9))
    return level


def _silence(length: int) -> Samples:
    return np.zeros((length, 2))


def _drums(score: Score, length: int, random: np.random.Generator) -> Samples:
    track = _silence(length)
    for name, rhythm in score.drums.items():
        hit = drum(name, random)
        for step in range(score.bars * STEPS_PER_BAR):
            level = _DRUM_LEVEL.get(rhythm[step % STEPS_PER_BAR], 0.0)
            if level and not (name == "cymbal" and step):  # one crash, where the loop begins
                _place(track, hit, step * score.step_s, level)
    return track


def _pump(score: Score, length: int) -> Samples:
    """The pad's level over time: down at each kick, back within the beat."""
    time_s = np.arange(length) / SAMPLE_RATE
    beat_s = score.step_s * 4
    since_kick = time_s % beat_s
    level: Samples = 1 - score.pump * np.exp(-since_kick / (beat_s * 0.28))
    return level


def _pad(score: Score, length: int) -> Samples:
    track = _silence(length)
    bar_s = score.step_s * STEPS_PER_BAR
    for bar in range(score.bars):
        for tone in _chord(score, bar):
            _place(track, note(score.pad_voice, score.root + tone, bar_s), bar * bar_s, score.pad_level)
    return track


def _bass(score: Score, length: int) -> Samples:
    track = _silence(length)
    for step in range(score.bars * STEPS_PER_BAR):
        interval = _BASS_INTERVAL.get(score.bass[step % STEPS_PER_BAR])
        if interval is None:
            continue
        root = score.root - 24 + _chord(score, step // STEPS_PER_BAR)[0]
        held_s = score.step_s * _steps_until_next(score.bass, step % STEPS_PER_BAR) * 0.9
        _place(track, note(score.bass_voice, root + interval, held_s), step * score.step_s, 0.9)
    return track


def _arpeggio(score: Score, length: int) -> Samples:
    track = _silence(length)
    for step in range(score.bars * STEPS_PER_BAR):
        symbol = score.arpeggio[step % STEPS_PER_BAR]
        if symbol == ".":
            continue
        tone = _chord(score, step // STEPS_PER_BAR)[int(symbol)]
        _place(track, note(score.lead_voice, score.root + 12 + tone, score.step_s * 1.5), step * score.step_s, 0.4)
    return track


def _melody(score: Score, length: int, random: np.random.Generator) -> Samples:
    """A walk over the scale that starts each bar on a chord tone."""
    track = _silence(length)
    ladder = [octave * 12 + tone for octave in range(3) for tone in score.scale]
    place = len(score.scale)
    for step in range(score.bars * STEPS_PER_BAR):
        within = step % STEPS_PER_BAR
        if score.melody[within] != "x":
            continue
        move = int(random.integers(-2, 3))
        place = int(np.clip(place + move, 2, len(ladder) - 3))
        pitch = ladder[place]
        if within == 0:
            pitch = _nearest(_chord(score, step // STEPS_PER_BAR), pitch)
        held_s = score.step_s * _steps_until_next(score.melody, within) * 0.85
        _place(track, note(score.lead_voice, score.root + pitch, held_s), step * score.step_s, 0.62)
    return track


def _nearest(chord: Chord, pitch: int) -> int:
    """The tone of the chord, an octave up, that lies closest to a pitch."""
    return min((tone + 12 for tone in chord), key=lambda tone: abs(tone - pitch))


def _steps_until_next(rhythm: str, step: int) -> int:
    """How many sixteenths a note may last: up to the next one, at most to the end of the bar."""
    for later in range(step + 1, len(rhythm)):
        if rhythm[later] != ".":
            return later - step
    return len(rhythm) - step


def _reverberate(dry: Samples, score: Score, random: np.random.Generator) -> Samples:
    """The loop heard in its room; circular convolution, so that the tail wraps like the music."""
    echo = room(score.room_s, random)
    padded = np.zeros_like(dry)
    padded[: len(echo)] = echo
    spectrum = np.fft.rfft(dry, axis=0) * np.fft.rfft(padded, axis=0)
    wet: Samples = np.fft.irfft(spectrum, len(dry), axis=0)
    return wet
