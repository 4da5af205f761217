"""Input selectors: JSON templates whose `${{ … }}` leaves are expressions in a bounded subset of CEL."""

from runengine_server.planner.selector.errors import SelectorFailed, SelectorInvalid, SelectorProblem
from runengine_server.planner.selector.limits import SelectorLimits
from runengine_server.planner.selector.reads import Reads
from runengine_server.planner.selector.scope import FixedScope, SelectorScope
from runengine_server.planner.selector.template import CompiledSelector, SelectorLeaf, compile_selector

__all__ = [
    "CompiledSelector",
    "FixedScope",
    "Reads",
    "SelectorFailed",
    "SelectorInvalid",
    "SelectorLeaf",
    "SelectorLimits",
    "SelectorProblem",
    "SelectorScope",
    "compile_selector",
]
