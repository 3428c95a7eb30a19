"""What fits before a deadline, and with how many samples: a simulated night, job by job, with the measured throughput."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

FEWEST_SAMPLES = 4
"""A short night never draws fewer. The standard deviation of K samples of a Gaussian is itself known to 1 / sqrt(2 (K - 1)): 27 % with 8,
41 % with 4, 71 % with 2; and two samples are all the interval there is. An acquisition whose sheet or configuration asks for
fewer gets what it asks for."""
KEPT_FREE = 0.1
"""Share of the time that is not planned: for slow jobs and second attempts."""
BETWEEN_JOBS_S = 60.0
"""Seconds that a job of a cluster costs beside its work: the queue, two starts of Snakemake, and until its end is noticed."""


@dataclass(frozen=True)
class Work:
    """What one acquisition still needs.

    Attributes
    ----------
    name : the acquisition.
    before, after : seconds of the job before and of the one after sampling, on CPUs; 0 where there is none.
    blocks : jobs of sampling.
    block_seconds : seconds of one of them, by the number of samples.
    samples : how many samples are wanted; `fewest` is how many will do.
    """

    name: str
    before: float = 0.0
    after: float = 0.0
    blocks: int = 0
    block_seconds: Callable[[int], float] = field(default=lambda samples: 0.0)
    samples: int = 1
    fewest: int = 1


@dataclass(frozen=True)
class Capacity:
    """Jobs that run at the same time, and when the first of them can (seconds from now).

    Attributes
    ----------
    jobs : of all kinds.
    sampling : of sampling; 0 where it shares the places of all others, as on one machine.
    sampling_from : when sampling can begin, because the model is trained first.
    """

    jobs: int
    sampling: int = 0
    sampling_from: float = 0.0


@dataclass(frozen=True)
class Plan:
    """Acquisitions that run, each with its number of samples, and those that do not; `ends` is when the last is done [s from now]."""

    samples: Mapping[str, int]
    deferred: tuple[str, ...]
    ends: float


class _Places:
    """Places in which jobs run, by the time from which each is free."""

    def __init__(self, count: int, since: float = 0.0) -> None:
        self.free = [since] * count

    def run(self, ready: float, seconds: float) -> float:
        """Put a job into the place that waited least for it, and return when it ends."""
        place = max(0, bisect_right(self.free, ready) - 1)
        end = max(ready, self.free.pop(place)) + seconds
        insort(self.free, end)
        return end


def make_plan(works: Sequence[Work], capacity: Capacity, seconds: float) -> Plan:
    """Return what runs in `seconds`, of `works` in the order in which they are started.

    As many as possible are restored: with the fewest samples where that is needed, and those at the head of the order with all samples as
    far as the time reaches. Where the first one is longer than the whole time it is started all the same, with all samples, or it would
    be put off for ever: what is finished of it counts the next night. The others get the places that it leaves.
    """
    fits = seconds * (1 - KEPT_FREE)
    longer = works[:1] if works and _Simulation(capacity).add(works[0], works[0].fewest) > fits else []

    def ends(chosen: Sequence[tuple[Work, int]]) -> float:
        night = _Simulation(capacity, longer)
        return max((night.add(work, samples) for work, samples in chosen), default=capacity.sampling_from)

    running = _accepted(works[len(longer) :], _Simulation(capacity, longer), fits)
    full = _largest(len(running), lambda count: ends(_samples(running, count)) <= fits)
    chosen = _samples(running, full)
    if full < len(running):
        between = running[full]
        more = _largest(
            between.samples - between.fewest,
            lambda extra: ends([*chosen[:full], (between, between.fewest + extra), *chosen[full + 1 :]]) <= fits,
        )
        chosen[full] = (between, between.fewest + more)
    samples = {work.name: count for work, count in [*_samples(longer, 1), *chosen]}
    deferred = tuple(work.name for work in works if work.name not in samples)
    late = [_Simulation(capacity).add(work, work.samples) for work in longer]
    return Plan(samples, deferred, max(ends(chosen), *late, 0.0))


def _accepted(works: Sequence[Work], night: _Simulation, fits: float) -> list[Work]:
    """Return the works that are done in time with the fewest samples; a long one that does not fit leaves its time to the next."""
    accepted: list[Work] = []
    for work in works:
        before = night.state()
        if night.add(work, work.fewest) <= fits:
            accepted.append(work)
        else:
            night.restore(before)
    return accepted


def _samples(works: Sequence[Work], full: int) -> list[tuple[Work, int]]:
    return [(work, work.samples if place < full else work.fewest) for place, work in enumerate(works)]


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number up to `most` that fits, 0 if only that does; what fits with more fits with less."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


class _Simulation:
    """A night in which acquisitions are started one after the other, after those that are `begun`."""

    def __init__(self, capacity: Capacity, begun: Sequence[Work] = ()) -> None:
        self.capacity = capacity
        self.jobs = _Places(capacity.jobs)
        self.sampling = _Places(capacity.sampling) if capacity.sampling else self.jobs
        for work in begun:
            self.add(work, work.samples)

    def state(self) -> tuple[list[float], list[float]]:
        return self.jobs.free.copy(), self.sampling.free.copy()

    def restore(self, state: tuple[list[float], list[float]]) -> None:
        self.jobs.free, self.sampling.free = state

    def add(self, work: Work, samples: int) -> float:
        """Run all jobs of an acquisition, and return when the last of them ends."""
        now = self.jobs.run(0.0, work.before) if work.before else 0.0
        if work.blocks:
            ready = max(now, self.capacity.sampling_from)
            each = work.block_seconds(samples)
            now = max(self.sampling.run(ready, each) for _ in range(work.blocks))
        return self.jobs.run(now, work.after) if work.after else now
