"""The colours of the SVG picture, for light and for dark pages; every tone is also said in words."""

from runengine_client.workflow.diagram.model import Tone

_LIGHT = {
    Tone.PLAIN: ("#ffffff", "#57606a"),
    Tone.SEED: ("#fff1e5", "#bc4c00"),
    Tone.DOWNSTREAM: ("#fff8f0", "#e8954a"),
    Tone.REUSED: ("#f6f8fa", "#b6bec7"),
    Tone.PENDING: ("#f6f8fa", "#b6bec7"),
    Tone.READY: ("#fff8c5", "#bf8700"),
    Tone.RUNNING: ("#ddf4ff", "#0969da"),
    Tone.COMPLETED: ("#eafbee", "#1a7f37"),
    Tone.SKIPPED: ("#eef4fb", "#6293c7"),
    Tone.FAILED: ("#ffebe9", "#cf222e"),
    Tone.CANCELLED: ("#fbefff", "#8250df"),
    Tone.UNKNOWN: ("#ffffff", "#b6bec7"),
}
_DARK = {
    Tone.PLAIN: ("#161b22", "#8b949e"),
    Tone.SEED: ("#3d1f0b", "#f0883e"),
    Tone.DOWNSTREAM: ("#2b1d10", "#bd6b2c"),
    Tone.REUSED: ("#12161c", "#484f58"),
    Tone.PENDING: ("#12161c", "#484f58"),
    Tone.READY: ("#2e2507", "#d29922"),
    Tone.RUNNING: ("#0c2d4d", "#58a6ff"),
    Tone.COMPLETED: ("#0f2e18", "#3fb950"),
    Tone.SKIPPED: ("#131f30", "#4d79a8"),
    Tone.FAILED: ("#3c1214", "#f85149"),
    Tone.CANCELLED: ("#271944", "#a371f7"),
    Tone.UNKNOWN: ("#161b22", "#484f58"),
}
_SANS = 'ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif'
_MONO = 'ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace'


def _rules(tones: dict[Tone, tuple[str, str]], *, page: str, ink: str, pale: str, edge: str, hot: str) -> str:
    lines = [
        f".page{{fill:{page}}}",
        f".heading,.step{{fill:{ink}}}",
        f".subheading,.detail{{fill:{pale}}}",
        f".edge{{stroke:{edge}}}.tip{{fill:{edge}}}",
        f".edge.hot{{stroke:{hot}}}.seed .tip,.downstream .tip{{fill:{hot}}}",
    ]
    lines += [
        f".{tone} .box{{fill:{fill};stroke:{line}}}.{tone} .bar{{fill:{line}}}" for tone, (fill, line) in tones.items()
    ]
    return "".join(lines)


STYLE = (
    f".heading{{font:600 16px {_SANS}}}.subheading{{font:13px {_SANS}}}"
    f".step{{font:600 12px {_MONO}}}.detail{{font:11px {_MONO}}}"
    ".box{stroke-width:1}.edge{fill:none;stroke-width:1.4}.edge.hot{stroke-width:2}"
    + _rules(_LIGHT, page="#ffffff", ink="#1b1f24", pale="#57606a", edge="#afb8c1", hot="#d9772b")
    + "@media (prefers-color-scheme:dark){"
    + _rules(_DARK, page="#0d1117", ink="#e6edf3", pale="#9da7b1", edge="#4b535d", hot="#d9772b")
    + "}"
)
"""The style sheet; it has no text of a workflow in it."""
