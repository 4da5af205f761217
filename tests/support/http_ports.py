"""Where a development stack serves what documents write with fixed ports."""

import re


def ports_of(log: str) -> dict[str, str]:
    """The documents' addresses and those that a log names."""
    named = {"HTTP and console on": "localhost:3001", "Health and metrics on": "localhost:3002"}
    return {
        address: re.findall(rf"{words} http://(\S+)", log)[-1].replace("127.0.0.1", "localhost")
        for words, address in named.items()
    }
