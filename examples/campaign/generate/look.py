"""What a style looks like: palette, motif and the words that go with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from examples.campaign.generate.colour import Colour, from_hex, from_hls
from examples.campaign.generate.json_values import seed_from


class Motif(Enum):
    """The scenery behind the title."""

    RAYS = "rays"
    PEAKS = "peaks"
    WAVES = "waves"
    GRID = "grid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Palette and motif of one style."""

    style: str
    motif: Motif
    sky_top: Colour
    sky_bottom: Colour
    sun: Colour
    layers: tuple[Colour, Colour, Colour]  # far to near
    accent: Colour
    ink: Colour
    shadow: Colour
    tagline: str


def _look(style: str, motif: Motif, codes: str, tagline: str) -> Look:
    """Build a look from nine hex codes: sky top, sky bottom, sun, three layers, accent, ink, shadow."""
    sky_top, sky_bottom, sun, far, middle, near, accent, ink, shadow = (from_hex(code) for code in codes.split())
    return Look(
        style=style,
        motif=motif,
        sky_top=sky_top,
        sky_bottom=sky_bottom,
        sun=sun,
        layers=(far, middle, near),
        accent=accent,
        ink=ink,
        shadow=shadow,
        tagline=tagline,
    )


_KNOWN = {
    look.style: look
    for look in (
        _look(
            "energetic",
            Motif.RAYS,
            "#ff7a2f #ff2e7e #ffd23f #d81e78 #8f1b86 #4a1372 #ffd23f #ffffff #5b0f5e",
            "Play fast. Win big.",
        ),
        _look(
            "epic",
            Motif.PEAKS,
            "#0b1030 #e2622b #ffd98a #6a2f5b #371f4c #140f2b #f2b134 #fff3d6 #1a0d22",
            "Every legend starts with one move.",
        ),
        _look(
            "calm",
            Motif.WAVES,
            "#bfe6f2 #f7e7d0 #fff6df #8fcfd3 #4fa3b3 #23708a #f08a5d #12445a #ffffff",
            "Take a breath. Take your turn.",
        ),
        _look(
            "retro",
            Motif.GRID,
            "#12063a #8a1c8c #ffcf56 #5a1a8a #2a0d5e #12063a #27e1ff #ffffff #ff2e9a",
            "Insert coin to continue.",
        ),
    )
}


def look_for(style: str) -> Look:
    """Return the look of a style; an unknown style gets one derived from its name, always the same."""
    name = style.strip().lower()
    known = _KNOWN.get(name)
    if known is not None:
        return known
    seed = seed_from("look", name)
    hue = (seed & 0xFFFF) / 0x10000
    spread = 0.10 + 0.12 * ((seed >> 16 & 0xFF) / 255)
    motif = list(Motif)[(seed >> 24) % len(Motif)]
    return Look(
        style=name,
        motif=motif,
        sky_top=from_hls(hue, 0.24, 0.70),
        sky_bottom=from_hls(hue + spread, 0.60, 0.75),
        sun=from_hls(hue + spread * 2, 0.80, 0.90),
        layers=(
            from_hls(hue + spread * 0.6, 0.42, 0.55),
            from_hls(hue + spread * 0.3, 0.28, 0.55),
            from_hls(hue, 0.14, 0.55),
        ),
        accent=from_hls(hue + 0.5, 0.60, 0.90),
        ink=from_hls(hue + spread, 0.97, 0.60),
        shadow=from_hls(hue, 0.10, 0.70),
        tagline="Your game. Your moment.",
    )
