"""The intro image: scenery, title, tagline and a start button whose place is reported."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFilter

from examples.campaign.generate.colour import Colour, blend, luminance
from examples.campaign.generate.json_values import seed_from
from examples.campaign.generate.lettering import (
    balance_lines,
    draw_line,
    fit_size,
    paste_centred,
    text_width,
    title_sprite,
)
from examples.campaign.generate.look import Look, look_for
from examples.campaign.generate.scenery import paint

WIDTH, HEIGHT = 960, 540
HEADLINE_LENGTH_MAX, LABEL_LENGTH_MAX = 80, 24  # letters; what is longer is cut, it could not be set legibly
_OVERSAMPLING = 2  # drawn at twice the size, so that every edge is smooth


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle in pixels of the finished image, with round ends of half its height."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IntroImage:
    """The finished image and where its button lies."""

    image: Image.Image
    button: Box


def draw_intro(style: str, headline: str, tagline: str, button_label: str) -> IntroImage:
    """Return the intro image of a campaign in a style, 960 × 540."""
    look = look_for(style)
    width, height = WIDTH * _OVERSAMPLING, HEIGHT * _OVERSAMPLING
    image = paint(look, width, height, seed_from("scenery", look.style, headline))
    below = _draw_headline(image, look, headline[:HEADLINE_LENGTH_MAX].upper())
    _draw_tagline(image, look, tagline, below)
    button = _draw_button(image, look, button_label[:LABEL_LENGTH_MAX].upper())
    return IntroImage(image=image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS), button=button)


def _draw_headline(image: Image.Image, look: Look, words: str) -> float:
    """Set the headline on up to three lines and return where it ends."""
    lines = balance_lines(words, lines_max=3, letters_per_line=13)
    size = fit_size(lines, image.width * 0.84, round(image.height * (0.21, 0.185, 0.135)[len(lines) - 1]))
    leading = size * 1.12
    top = image.height * 0.34 - leading * len(lines) / 2
    is_dark_ink = luminance(look.ink) < 0.5
    foot = blend(look.ink, look.layers[1], 0.4) if is_dark_ink else blend(look.ink, look.sun, 0.6)
    for index, line in enumerate(lines):
        centre = (image.width / 2, top + leading * (index + 0.5))
        paste_centred(image, title_sprite(line, size, look.ink, foot, look.shadow), centre)
    return top + leading * len(lines)


def _draw_tagline(image: Image.Image, look: Look, words: str, below: float) -> None:
    """Set the tagline on a dark ribbon, so that it can be read on any scenery."""
    size = fit_size([words], image.width * 0.7, round(image.height * 0.042))
    centre = (image.width / 2, below + image.height * 0.055)
    half_width, half_height = text_width(words, size) / 2 + size * 1.1, size * 0.95
    is_dark_ink = luminance(look.ink) < 0.5
    ribbon = Image.new("L", image.size, 0)
    box = (centre[0] - half_width, centre[1] - half_height, centre[0] + half_width, centre[1] + half_height)
    ImageDraw.Draw(ribbon).rounded_rectangle(box, radius=half_height, fill=120 if is_dark_ink else 165)
    image.paste(Image.new("RGB", image.size, look.shadow), (0, 0), ribbon)
    draw_line(image, words, size, centre, look.ink)


def _draw_button(image: Image.Image, look: Look, label: str) -> Box:
    """Draw the button on a whole-pixel box of the finished image and return that box."""
    size = fit_size([label], image.width * 0.34, round(image.height * 0.058))
    triangle = size * 0.8
    wide = round((text_width(label, size) + triangle + size * 3.2) / _OVERSAMPLING)
    tall = round(size * 2.3 / _OVERSAMPLING)
    box = Box(left=(WIDTH - wide) // 2, top=round(HEIGHT * 0.80 - tall / 2), width=wide, height=tall)
    left, top = box.left * _OVERSAMPLING, box.top * _OVERSAMPLING
    right, bottom = left + wide * _OVERSAMPLING, top + tall * _OVERSAMPLING
    _button_body(image, look, (left, top, right, bottom))
    colour = _readable_on(look.accent, look)
    middle = (top + bottom) / 2
    start = (left + right) / 2 - (text_width(label, size) + triangle * 1.7) / 2
    ImageDraw.Draw(image).polygon(
        [
            (start, middle - triangle * 0.58),
            (start, middle + triangle * 0.58),
            (start + triangle, middle),
        ],
        fill=colour,
    )
    draw_line(image, label, size, (start + triangle * 1.7 + text_width(label, size) / 2, middle), colour, weight=2)
    return box


def _button_body(image: Image.Image, look: Look, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    radius = (bottom - top) / 2
    shade = Image.new("L", image.size, 0)
    ImageDraw.Draw(shade).rounded_rectangle((left, top + radius * 0.5, right, bottom + radius * 0.5), radius, fill=150)
    image.paste(
        Image.new("RGB", image.size, look.shadow), (0, 0), shade.filter(ImageFilter.GaussianBlur(radius * 0.35))
    )
    draw = ImageDraw.Draw(image)
    lip = radius * 0.16
    draw.rounded_rectangle((left, top, right, bottom), radius, fill=blend(look.accent, look.shadow, 0.45))
    face = (left, top, right, bottom - lip)
    draw.rounded_rectangle(face, radius - lip / 2, fill=look.accent)
    inset = radius * 0.16
    shine = Image.new("L", image.size, 0)
    ImageDraw.Draw(shine).rounded_rectangle(
        (left + inset * 2, top + inset, right - inset * 2, top + radius * 0.85), radius * 0.42, fill=70
    )
    image.paste(Image.new("RGB", image.size, (255, 255, 255)), (0, 0), shine)


def _readable_on(ground: Colour, look: Look) -> Colour:
    """Dark lettering on a light button, light lettering on a dark one."""
    dark = blend(look.layers[2], (0, 0, 0), 0.25)
    return dark if luminance(ground) > 0.45 else (255, 255, 255)
