"""Encodes frames as H.264 in MP4, the same file for the same frames."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.video.frame import PictureType
from PIL import Image

WIDTH, HEIGHT = 640, 360
FRAMES_PER_SECOND = 24
MEDIA_TYPE = "video/mp4"

# One thread: x264 places its slices by thread. Bit-exact: no encoder version, no creation time in the file.
_ENCODER = {"preset": "veryfast", "crf": "21", "threads": "1", "g": "24"}
_CONTAINER = {"fflags": "+bitexact", "movflags": "+faststart"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A finished video file."""

    data: bytes
    frames: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return round(self.frames / FRAMES_PER_SECOND, 3)


def encode_film(frames: Iterable[Image.Image], title: str) -> Film:
    """Return an MP4 of RGB frames of 640 × 360, 24 a second, with a title and its index in front.

    Raises:
        ValueError: There is no frame.
    """
    # A file, because moving the index to the front reads back what was written.
    with tempfile.TemporaryDirectory(prefix="campaign-film-") as folder:
        path = Path(folder) / "film.mp4"
        count = _write(path, frames, title)
        if not count:
            raise ValueError("a film needs at least one frame")
        return Film(data=path.read_bytes(), frames=count)


def wave_at(share: float) -> float:
    """Return 0 at the start and end of a loop and 1 in its middle, smoothly."""
    return 0.5 - 0.5 * math.cos(2 * math.pi * share)


def _write(path: Path, frames: Iterable[Image.Image], title: str) -> int:
    count = 0
    with av.open(str(path), "w", format="mp4", options=_CONTAINER) as container:
        container.metadata["title"] = title
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=_ENCODER)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.flags |= Flags.bitexact
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
            frame.pts = count
            frame.pict_type = PictureType.NONE
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return count
