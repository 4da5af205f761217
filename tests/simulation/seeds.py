"""Which stories are told: a few hundred by default, thousands nightly, or those that SIMULATION_SEEDS names."""

import os

FAST = 200
NIGHTLY = 2_500


def chosen_seeds() -> range:
    """`SIMULATION_SEEDS=17` is one seed, `SIMULATION_SEEDS=5000:7500` a range of them."""
    asked = os.environ.get("SIMULATION_SEEDS", "")
    if asked:
        first, _, end = asked.partition(":")
        return range(int(first), int(end or int(first) + 1))
    return range(NIGHTLY if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else FAST)
