"""Add up the size of values that will be put together, and stop before they are."""

from collections.abc import Iterable

from runengine_server.domain.json_limits import JsonLimits
from runengine_server.domain.json_value import JsonLimitExceeded, JsonValue


def check_budget(values: Iterable[JsonValue], limits: JsonLimits) -> None:
    """Return when the values together hold no more characters and nodes than the limits allow.

    A lower bound of the encoded size, so that nothing within the limits is refused. The values are taken one by
    one and not kept.

    Raises:
        JsonLimitExceeded: too much.
    """
    characters = nodes = 0
    for value in values:
        pending: list[JsonValue] = [value]
        while pending:
            part = pending.pop()
            nodes += 1
            if isinstance(part, str):
                characters += len(part)
            elif isinstance(part, dict):
                characters += sum(map(len, part))
                pending.extend(part.values())
            elif isinstance(part, list):
                pending.extend(part)
            if characters > limits.bytes_max:
                raise JsonLimitExceeded("", f"longer than {limits.bytes_max} bytes")
            if nodes > limits.nodes_max:
                raise JsonLimitExceeded("", f"of more than {limits.nodes_max} values")
