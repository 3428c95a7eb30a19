"""The places of a mosaic's fields that fit the measured overlaps best, and those of fields that no overlap ties to the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

MOST_RESIDUAL_PX = 3.0  # of an overlap: objectives distort the edges of a field by less
LEAST_OUTLIER_PX, OUTLIER = 1.0, 5.0  # an overlap is left out above this residual, and this multiple of the median residual
ENOUGH_FOR_A_MAP = 6  # measured fields, from which a turn and scale of the stage are told from chance
Points = NDArray[np.float64]


def groups(count: int, pairs: Iterable[tuple[int, int]]) -> list[set[int]]:
    """Return which of `count` fields hang together by these pairs."""
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from(pairs)
    return [set(group) for group in nx.connected_components(graph)]


def resolve(
    shifts: Mapping[tuple[int, int], Points], count: int
) -> tuple[list[dict[int, Points]], dict[tuple[int, int], float], set[tuple[int, int]]]:
    """Return how each field is moved, group by group of fields that hang together (largest first), and the residual of each overlap.

    The overlap that fits worst is left out until all fit; of those left out the residual is given too.
    """
    used = dict(shifts)
    while True:
        together = sorted(groups(count, used), key=len, reverse=True)
        moves = [_least_squares({pair: shift for pair, shift in used.items() if pair[0] in group}, group) for group in together]
        of_field = {number: move for group in moves for number, move in group.items()}
        residuals = {(one, other): float(np.hypot(*(of_field[other] - of_field[one] - shift))) for (one, other), shift in shifts.items()}
        worst = max(used, key=lambda pair: residuals[pair], default=None)
        if worst is None or residuals[worst] <= _limit([residuals[pair] for pair in used]):
            return moves, residuals, set(used)
        del used[worst]


def _limit(residuals: list[float]) -> float:
    """Return the residual above which an overlap is an outlier among others."""
    return min(MOST_RESIDUAL_PX, max(LEAST_OUTLIER_PX, OUTLIER * float(np.median(residuals))))


def _least_squares(shifts: Mapping[tuple[int, int], Points], group: set[int]) -> dict[int, Points]:
    """Return the moves that fit the measured shifts best; their mean is zero."""
    if not shifts:
        return {number: np.zeros(2) for number in group}
    import networkx as nx
    import xarray as xr
    from multiview_stitcher.param_resolution import groupwise_resolution

    graph = nx.Graph()
    graph.add_nodes_from(sorted(group))
    corners = xr.DataArray(np.array([[0.0, 0.0], [1.0, 1.0]]))
    for (one, other), shift in shifts.items():
        matrix = np.eye(3)
        matrix[:2, 2] = -shift
        graph.add_edge(one, other, transform=matrix, quality=1.0, overlap=1.0, bbox=corners)
    resolved, _ = groupwise_resolution(
        graph, "linear_two_pass", transform="translation", residual_threshold=math.inf, weight_mode="uniform", atol=1e-12, btol=1e-12
    )
    moves = {number: np.asarray(resolved[number], float)[:2, 2] for number in sorted(group)}
    mean = np.mean(list(moves.values()), axis=0)
    return {number: move - mean for number, move in moves.items()}


def with_fallback(moves: list[dict[int, Points]], nominal: Points) -> tuple[Points, set[int]]:
    """Return every field's move, and which hang on the stage alone: all that no overlap ties to the largest group.

    They are moved as the largest group says that the stage turns and scales, if it is large enough to say it.
    """
    main, *others = moves
    numbers = sorted(main)
    moved = np.zeros_like(nominal)
    moved[numbers] = [main[number] for number in numbers]
    centre = nominal[numbers].mean(axis=0)
    linear = np.zeros((2, 2))
    if len(numbers) >= ENOUGH_FOR_A_MAP:
        linear = np.linalg.lstsq(nominal[numbers] - centre, moved[numbers], rcond=1e-6)[0]
    for group in others:
        own = sorted(group)
        expected = ((nominal[own] - centre) @ linear).mean(axis=0)
        moved[own] = [group[number] + expected for number in own]
    return moved, {number for group in others for number in group} if len(main) > 1 else set(range(len(nominal)))
