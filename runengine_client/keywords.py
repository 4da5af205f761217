"""Refuses keyword arguments that an options type does not know: nothing else would notice a misspelt one."""

from collections.abc import Mapping


def refuse_unknown(given: Mapping[str, object], kind: type) -> None:
    """Return when every keyword is a key of `kind`, a TypedDict.

    Raises:
        TypeError: names those that are not, and what there is.
    """
    unknown = [name for name in given if name not in kind.__annotations__]
    if unknown:
        raise TypeError(f"unknown option {', '.join(unknown)}; there are {', '.join(kind.__annotations__)}")
