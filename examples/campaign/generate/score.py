"""What a style sounds like: tempo, harmony, rhythm and the voices that play them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from examples.campaign.generate.json_values import seed_from

Chord: TypeAlias = tuple[int, ...]  # semitones above the key's root, lowest first

STEPS_PER_BAR = 16  # rhythm strings count sixteenth notes of a 4/4 bar
BEATS_PER_BAR = 4
_NOTE_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """A pitched instrument: overtones, envelope and width."""

    wave: str  # saw, square, triangle, sine or bell
    brightness: float  # number of the overtone at which the sound has lost half its strength
    attack_s: float
    decay_s: float  # time to fall to 1/e once the attack is over
    sustain: float  # level that the decay approaches, 0 … 1
    release_s: float
    detune_cents: float  # how far the two outer of three unison copies lie apart; 0 = one copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Everything the synthesiser needs to play one style."""

    style: str
    tempo_bpm: int
    root: int  # MIDI number of the key's root, around middle C
    minor: bool
    chords: tuple[Chord, ...]  # one a bar, repeated
    bars: int
    scale: tuple[int, ...]  # semitones of the notes the melody may use
    drums: dict[str, str]  # drum name -> rhythm of one bar; x = hit, o = soft hit
    bass: str  # rhythm of one bar: 0 root, 5 fifth, 8 octave
    arpeggio: str  # rhythm of one bar: digit = chord tone
    melody: str  # rhythm of one bar: x = a note; which one depends on the title
    pad_voice: Voice
    bass_voice: Voice
    lead_voice: Voice
    pad_level: float
    pump: float  # how far the kick ducks the pad, 0 … 1
    room_s: float  # reverberation time
    room_level: float

    @property
    def key_name(self) -> str:
        """The key as musicians write it."""
        return f"{_NOTE_NAMES[self.root % 12]} {'minor' if self.minor else 'major'}"

    @property
    def step_s(self) -> float:
        """Length of a sixteenth note in seconds."""
        return 60 / self.tempo_bpm / BEATS_PER_BAR

    @property
    def duration_s(self) -> float:
        """Length of the whole loop in seconds."""
        return self.step_s * STEPS_PER_BAR * self.bars


_SOFT_PAD = Voice(wave="triangle", brightness=4, attack_s=0.6, decay_s=2, sustain=0.8, release_s=1.2, detune_cents=9)
_STRINGS = Voice(wave="saw", brightness=7, attack_s=0.35, decay_s=2, sustain=0.9, release_s=0.7, detune_cents=14)
_STABS = Voice(wave="saw", brightness=12, attack_s=0.02, decay_s=1.2, sustain=0.7, release_s=0.12, detune_cents=18)
_CHIP_PAD = Voice(wave="square", brightness=8, attack_s=0.02, decay_s=1, sustain=0.5, release_s=0.1, detune_cents=6)
_PLUCK = Voice(wave="saw", brightness=9, attack_s=0.004, decay_s=0.16, sustain=0.0, release_s=0.08, detune_cents=10)
_BRASS = Voice(wave="saw", brightness=6, attack_s=0.06, decay_s=0.9, sustain=0.7, release_s=0.25, detune_cents=7)
_BELL = Voice(wave="bell", brightness=9, attack_s=0.004, decay_s=0.9, sustain=0.0, release_s=0.9, detune_cents=0)
_CHIP = Voice(wave="square", brightness=24, attack_s=0.002, decay_s=0.25, sustain=0.3, release_s=0.03, detune_cents=0)
_SAW_BASS = Voice(wave="saw", brightness=5, attack_s=0.004, decay_s=0.25, sustain=0.4, release_s=0.05, detune_cents=0)
_SUB_BASS = Voice(wave="triangle", brightness=3, attack_s=0.03, decay_s=1, sustain=0.8, release_s=0.3, detune_cents=0)

_MAJOR_PENTATONIC = (0, 2, 4, 7, 9)
_MINOR_PENTATONIC = (0, 3, 5, 7, 10)

_ENERGETIC = Score(
    style="energetic",
    tempo_bpm=120,
    root=60,
    minor=False,
    chords=((0, 4, 7, 12), (-5, -1, 2, 7), (-3, 0, 4, 9), (-7, -3, 0, 5)),
    bars=4,
    scale=_MAJOR_PENTATONIC,
    drums={"kick": "x...x...x...x...", "clap": "....x.......x...", "hat": "o.x.o.x.o.x.o.xo"},
    bass="..0...0...0...08",
    arpeggio="0.2.3.2.1.2.3.2.",
    melody="x..x..x...x.x...",
    pad_voice=_STABS,
    bass_voice=_SAW_BASS,
    lead_voice=_PLUCK,
    pad_level=0.34,
    pump=0.75,
    room_s=0.9,
    room_level=0.16,
)
_EPIC = Score(
    style="epic",
    tempo_bpm=90,
    root=62,
    minor=True,
    chords=((0, 3, 7, 12), (-4, 0, 3, 8), (3, 7, 10, 15), (-2, 2, 5, 10)),
    bars=4,
    scale=_MINOR_PENTATONIC,
    drums={"taiko": "x.....o.x..o..xo", "snare": "o.ooo.oox.ooo.oo", "cymbal": "x..............."},
    bass="0.......0...5...",
    arpeggio="0.0.1.0.2.0.1.0.",
    melody="x.....x.x.......",
    pad_voice=_STRINGS,
    bass_voice=_SUB_BASS,
    lead_voice=_BRASS,
    pad_level=0.5,
    pump=0.0,
    room_s=2.4,
    room_level=0.34,
)
_CALM = Score(
    style="calm",
    tempo_bpm=84,
    root=65,
    minor=False,
    chords=((0, 4, 7, 11), (-3, 0, 4, 7), (-7, -3, 0, 4), (-5, 0, 2, 5)),
    bars=4,
    scale=_MAJOR_PENTATONIC,
    drums={"shaker": "o.x.o.x.o.x.o.x.", "rim": "......o.....o..."},
    bass="0.........5.....",
    arpeggio="0...2...3...1...",
    melody="x.....x...x.....",
    pad_voice=_SOFT_PAD,
    bass_voice=_SUB_BASS,
    lead_voice=_BELL,
    pad_level=0.5,
    pump=0.0,
    room_s=2.0,
    room_level=0.38,
)
_RETRO = Score(
    style="retro",
    tempo_bpm=110,
    root=57,
    minor=True,
    chords=((0, 3, 7, 12), (-4, 0, 3, 8), (-9, -5, -2, 3), (-2, 2, 5, 10)),
    bars=4,
    scale=_MINOR_PENTATONIC,
    drums={"kick": "x...x...x...x.x.", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
    bass="0.8.0.8.0.8.0.8.",
    arpeggio="0123210301232103",
    melody="x.x.x...x..x..x.",
    pad_voice=_CHIP_PAD,
    bass_voice=_CHIP,
    lead_voice=_CHIP,
    pad_level=0.14,
    pump=0.2,
    room_s=0.6,
    room_level=0.10,
)
_KNOWN = {score.style: score for score in (_ENERGETIC, _EPIC, _CALM, _RETRO)}


def score_for(style: str) -> Score:
    """Return the score of a style; an unknown style gets a known one transposed and re-timed by its name."""
    name = style.strip().lower()
    known = _KNOWN.get(name)
    if known is not None:
        return known
    seed = seed_from("score", name)
    base = list(_KNOWN.values())[seed % len(_KNOWN)]
    other = list(_KNOWN.values())[(seed >> 8) % len(_KNOWN)]
    rotation = (seed >> 16) % len(base.chords)
    return Score(
        style=name,
        tempo_bpm=84 + (seed >> 24) % 34,
        root=57 + (seed >> 32) % 9,
        minor=base.minor,
        chords=base.chords[rotation:] + base.chords[:rotation],
        bars=base.bars,
        scale=base.scale,
        drums=other.drums,
        bass=other.bass,
        arpeggio=base.arpeggio,
        melody=other.melody,
        pad_voice=base.pad_voice,
        bass_voice=base.bass_voice,
        lead_voice=other.lead_voice,
        pad_level=base.pad_level,
        pump=base.pump,
        room_s=base.room_s,
        room_level=base.room_level,
    )
