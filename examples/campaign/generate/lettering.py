"""Sets lines of display type: heavy, spaced, with a gradient and an extruded shadow."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from examples.campaign.generate.colour import Colour, blend

_TRACKING = 0.035  # space between letters as a share of the type size
_WEIGHT = 0.036  # stroke that turns the regular face into a heavy one, as a share of the type size
_SIZE_MIN = 14


def font_of(size: int) -> ImageFont.FreeTypeFont:
    """Return the face that ships with Pillow (Aileron), at a size in pixels.

    Raises:
        RuntimeError: Pillow was built without FreeType.
    """
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType; scalable type is not available")
    return font


def text_width(words: str, size: int) -> float:
    """Return the width of a line as `draw_line` sets it, in pixels."""
    font = font_of(size)
    return sum(font.getlength(letter) + size * _TRACKING for letter in words) - size * _TRACKING


def fit_size(lines: list[str], width_max: float, size_max: int) -> int:
    """Return the largest type size up to `size_max` at which every line fits the width."""
    widest = max(text_width(line, 100) for line in lines)
    return max(_SIZE_MIN, min(size_max, int(width_max / widest * 100)))


def balance_lines(words: str, lines_max: int, letters_per_line: int) -> list[str]:
    """Return the words on as few lines as their length asks for, all about equally long."""
    parts = words.split()
    count = min(lines_max, len(parts), max(1, -(-len(words) // letters_per_line)))
    lines: list[str] = []
    while parts:
        wanted = sum(len(part) + 1 for part in parts) / (count - len(lines))
        line = parts.pop(0)
        while parts and (len(lines) == count - 1 or abs(len(f"{line} {parts[0]}") - wanted) <= abs(len(line) - wanted)):
            line = f"{line} {parts.pop(0)}"
        lines.append(line)
    return lines


def letters_mask(words: str, size: int) -> Image.Image:
    """Return a line of heavy type as an 8-bit mask, with a margin of half the size around it."""
    font = font_of(size)
    margin = size // 2
    mask = Image.new("L", (round(text_width(words, size)) + 2 * margin, round(size * 1.2) + 2 * margin), 0)
    draw = ImageDraw.Draw(mask)
    x = float(margin)
    for letter in words:
        draw.text((x, margin), letter, font=font, fill=255, stroke_width=max(1, round(size * _WEIGHT)))
        x += font.getlength(letter) + size * _TRACKING
    return mask


def title_sprite(words: str, size: int, ink: Colour, foot: Colour, shadow: Colour) -> Image.Image:
    """Return a line with a vertical gradient from ink to foot, extruded downwards, on a soft shadow (RGBA)."""
    mask = letters_mask(words, size)
    depth = max(2, round(size * 0.075))
    sprite = Image.new("RGBA", mask.size, (*shadow, 0))
    soft = mask.filter(ImageFilter.GaussianBlur(size * 0.11)).point(lambda level: level * 0.55)
    sprite.paste(Image.new("RGBA", mask.size, (*shadow, 255)), (0, depth), soft)
    solid = Image.new("RGBA", mask.size, (*shadow, 255))
    for shift in range(depth, 0, -1):
        sprite.paste(solid, (round(shift * 0.5), shift), mask)
    face = Image.new("RGBA", mask.size)
    draw = ImageDraw.Draw(face)
    top, bottom = size // 2, round(size * 1.5)
    for y in range(mask.height):
        share = min(1.0, max(0.0, (y - top) / (bottom - top)))
        draw.line((0, y, mask.width, y), fill=(*blend(ink, foot, share), 255))
    sprite.paste(face, (0, 0), mask)
    return sprite


def paste_centred(target: Image.Image, sprite: Image.Image, centre: tuple[float, float]) -> None:
    """Put an RGBA sprite onto an image, its middle at a point."""
    corner = (round(centre[0] - sprite.width / 2), round(centre[1] - sprite.height / 2))
    target.paste(sprite, corner, sprite)


def draw_line(
    image: Image.Image, words: str, size: int, centre: tuple[float, float], colour: Colour, weight: float = 1.0
) -> None:
    """Draw one flat line of type, its middle at a point."""
    font = font_of(size)
    draw = ImageDraw.Draw(image)
    x = centre[0] - text_width(words, size) / 2
    stroke = round(size * _WEIGHT * 0.5 * weight)
    for letter in words:
        draw.text((x, centre[1]), letter, font=font, fill=colour, stroke_width=stroke, anchor="lm")
        x += font.getlength(letter) + size * _TRACKING
