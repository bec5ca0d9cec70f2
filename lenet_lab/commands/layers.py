"""`layers`: a network layer by layer."""

from __future__ import annotations

from collections.abc import Sequence


def main(words: Sequence[str]) -> int:
    """Print the table of the network that the overrides compose."""
    if "--help" in words or "-h" in words:
        print("usage: python -m lenet_lab layers [OVERRIDE ...]\n\nThe network of these overrides, with formulas.")
        return 0
    from lenet_lab.cell import build
    from lenet_lab.commands.errors import hydra_errors
    from lenet_lab.config.compose import compose_cell
    from lenet_lab.config.schema import parse
    from lenet_lab.models import layer_table, render_table

    with hydra_errors():
        config = parse(compose_cell(words).resolved)
    print(render_table(layer_table(build(config), config.data.in_shape)))
    return 0
