"""Parameter type of numbers with a fraction on the command line; NaN and infinity are none."""

from __future__ import annotations

import math
from typing import Any

import click


class Number(click.FloatRange):
    """A number in a range; click's own type accepts NaN and infinity."""

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> float:
        number = float(super().convert(value, parameter, context))
        if not math.isfinite(number):
            self.fail(f"wanted a finite number, got {value}", parameter, context)
        return number
