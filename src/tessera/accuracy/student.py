"""Student's t, for few samples."""

from __future__ import annotations

import math

import numpy as np


def t_quantile(tail: float, freedom: int) -> float:
    """What a variable of Student's t with so many degrees of freedom exceeds in size with probability `tail`.

    With t = sqrt(f) tan(a) the density of a is proportional to cos(a)^(f-1), which is summed here over log(pi/2 - a),
    for the tail lies at angles near pi/2.
    """
    rest = np.exp(np.linspace(math.log(1e-16), math.log(math.pi / 2), 200_001))
    weights = np.sin(rest) ** (freedom - 1) * rest
    mass = np.concatenate([[0.0], np.cumsum((weights[1:] + weights[:-1]) / 2)])
    place = int(np.searchsorted(mass, tail * mass[-1]))
    return math.sqrt(freedom) / math.tan(float(rest[max(place, 1)]))
