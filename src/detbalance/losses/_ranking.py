"""The exact core of the ranking losses: who stands above whom, for all positives at once.

A candidate y stands above the positive x by H(y - x) = clamp((y - x) / (2 delta) + 1/2, 0, 1), a ramp from x - delta to
x + delta (delta = 0: a step, 1 from y = x on). Sums over ramps are piecewise linear. Between two neighbouring ends of
ramps, the edges, every candidate sees the same ones, so it is enough to know how many candidates lie there and where
on average. One search puts the candidates between the edges; the rest works on the edges: O((P + N) log P) time and
linear memory for P positives and N negatives, where public code loops over the positives, O(P N).
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..common import require, sum_over_ranks, world_size

_CHUNK = 2**17
"""so many negatives are worked on at a time (32 times as many on a GPU): what is kept of each is its row and bucket"""


class Ramps:
    """The ramps of P positives, each seen only by the candidates of its own group.

    Bucket k lies right above edge k - 1; bucket 0 is below all. Edges are sorted by group, then by value. Sums are
    taken in float64 from the top down, so that few false positives are as exact as many.

    Args:
        x: (P,) float64, P > 0.
        delta: half the length of a ramp.
        group: (P,) in 0..groups - 1; None: all are in one.
    """

    def __init__(self, x: Tensor, delta: float, group: Tensor | None = None, groups: int = 1):
        self.delta = delta
        ends = torch.cat((x - delta, x + delta)) if delta else x
        self.values, order = ends.sort()
        self.edges, self.keys, size = self.values, None, len(ends)
        number = torch.arange(size, device=x.device)
        if group is not None:
            # Whole numbers in place of values shifted by group, which would round.
            own = (group.repeat(2) if delta else group)[order]
            self.keys, again = (own * (size + 1) + number).sort()
            order, self.edges, own = order[again], self.values[again], own[again]
            self.starts = torch.searchsorted(own, torch.arange(groups + 1, device=x.device))
            self.first, self.end = (torch.cat((place[:1], place)) for place in (self.starts[own], self.starts[own + 1]))
        place = torch.empty_like(order).scatter_(0, order, number)
        self.low, self.high = place[: len(x)], place[-len(x) :]
        self.width = x.new_zeros(size + 1)
        if delta:
            self.width[1:-1] = self.edges.diff()
            depth = self._jumps(torch.ones_like(x)).cumsum(0)  # how many ramps rise in each bucket; exact
            self.rises = depth > 0.5
            self.width *= self.rises

    def _jumps(self, weight: Tensor) -> Tensor:
        """(E + 1,) what begins (and under ramps ends) in each bucket."""
        jumps = weight.new_zeros(len(self.edges) + 1)
        jumps[self.low + 1] = weight
        if self.delta:
            jumps[self.high + 1] = -weight
        return jumps

    def place(self, y: Tensor, group: Tensor | None = None) -> Tensor:
        """(n,) the bucket of each candidate y, float64."""
        bucket = torch.bucketize(y, self.values, right=True, out_int32=self.keys is None)
        if self.keys is None:
            return bucket
        bucket = torch.searchsorted(self.keys, group * (len(self.edges) + 1) + bucket)
        return torch.where(bucket > self.starts[group], bucket, 0).int()  # half the memory

    def totals(self, y: Tensor, bucket: Tensor, weight: Tensor | None = None) -> Tensor:
        """(2, E + 1) number of candidates in each bucket, and the sum of how far above its lower edge they lie; or
        those of their weights. Adds over chunks and processes."""
        size, offset = len(self.edges) + 1, self._offset(y, bucket)
        if weight is None:
            count = torch.bincount(bucket, minlength=size).to(offset.dtype)
        else:
            count, offset = offset.new_zeros(size).index_add_(0, bucket, weight), offset * weight
        # Not bincount with weights: this has a deterministic form on every device.
        return torch.stack((count, offset.new_zeros(size).index_add_(0, bucket, offset)))

    def _offset(self, y: Tensor, bucket: Tensor) -> Tensor:
        return y - torch.cat((self.edges[:1], self.edges)).index_select(0, bucket)

    def above(self, totals: Tensor) -> Tensor:
        """(P,) the sum of H(y - x) over the candidates y of those totals: the integral, from x - delta to x + delta,
        of the number of candidates above each score."""
        count, offset = totals
        here = _from_the_top(count)
        if self.keys is not None:
            here = torch.cat((here[:-1] - here[self.end + 1], here[-1:]))
        if not self.delta:
            return here[self.low + 1]
        area = _from_the_top(here[1:] * self.width + offset.where(self.rises, 0))
        return (area[self.low + 1] - area[self.high + 1]) / (2 * self.delta)

    def below(self, weight: Tensor, y: Tensor, bucket: Tensor) -> Tensor:
        """(n,) for each candidate y the sum of weight H(y - x) over the positives x."""
        value = self._jumps(weight).cumsum(0)
        if not self.delta:
            return (value if self.keys is None else value - value[self.first]).index_select(0, bucket)
        slope = value.where(self.rises, 0) / (2 * self.delta)
        value = (slope * self.width).cumsum(0)
        value = torch.cat((value.new_zeros(1), value[:-1]))
        if self.keys is not None:
            value = value - value[self.first]
        return torch.addcmul(value.index_select(0, bucket), slope.index_select(0, bucket), self._offset(y, bucket))


class Ranking:
    """The positives and the negatives of a table of logits, over all processes, and how they stand to each other.

    Every process must make one and call the same methods: it holds all positives (`x`, `group`, and what `gather`
    brings), but the negatives of its own rows only; of the others' it gets the totals.

    Args:
        logits, target: (S, C); the entries with a target above 0 are positives.
        delta: half the length of a ramp.
        per_class: rank each column for itself.
    """

    def __init__(self, logits: Tensor, target: Tensor, *, delta: float, per_class: bool):
        self.table, flat = logits, logits.reshape(-1)
        columns = logits.shape[1] if per_class else 1
        self.at = (target > 0).reshape(-1).nonzero().squeeze(1)
        self.counts = _counts(self.at)
        self.x = self.gather(flat[self.at].double())
        self.group = self.gather(self.at % columns) if per_class else None
        if not len(self.x):
            return
        self.ramps = Ramps(self.x, delta, self.group, columns)
        lowest = self._lowest(columns)
        near = (logits >= lowest).reshape(-1).nonzero().squeeze(1)  # all others stand above no positive
        near = near.masked_select(target.reshape(-1).index_select(0, near) <= 0)
        self.chunks = [
            (rows, self.ramps.place(self._scores(rows), rows % columns if per_class else None))
            for rows in near.split(_CHUNK * (32 if near.is_cuda else 1))
        ]
        self.place = self.ramps.place(self.x, self.group)

    def _scores(self, rows: Tensor) -> Tensor:
        return self.table.reshape(-1).index_select(0, rows).double()

    def _lowest(self, columns: int) -> Tensor:
        """The foot of the lowest ramp of each column, rounded down to the logits' type."""
        feet = self.x - self.ramps.delta
        group = torch.zeros_like(self.ramps.low) if self.group is None else self.group
        lowest = feet.new_full((columns,), torch.inf).scatter_reduce(0, group, feet, "amin")
        rounded = lowest.to(self.table.dtype)
        return torch.where(rounded > lowest, rounded.nextafter(rounded.new_tensor(-torch.inf)), rounded)

    def gather(self, column: Tensor) -> Tensor:
        """A column of the own positives -> that of the positives of all processes."""
        if len(self.counts) == 1:
            return column
        padded = column.new_zeros(max(self.counts))
        padded[: len(column)] = column
        parts = [torch.empty_like(padded) for _ in self.counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, self.counts)])

    @property
    def mine(self) -> slice:
        """Where the own positives stand among all."""
        start = sum(self.counts[: dist.get_rank()]) if len(self.counts) > 1 else 0
        return slice(start, start + len(self.at))

    def shares(self) -> Tensor:
        """(P,) the weight of each positive in a mean over them; per class, in a mean over the classes that have any."""
        if self.group is None:
            return torch.full_like(self.x, 1 / len(self.x))
        counts = self.group.bincount()
        return 1 / (counts[self.group] * (counts > 0).sum()).to(self.x.dtype)

    def false_positives(self) -> Tensor:
        """(P,) how many negatives stand above each positive."""
        totals = sum(self.ramps.totals(self._scores(rows), bucket) for rows, bucket in self.chunks)
        return self.ramps.above(sum_over_ranks(totals))

    def true_positives(self, weight: Tensor | None = None) -> Tensor:
        """(P,) how many positives stand above each positive, itself included with H(0); or the sum of their weights."""
        return self.ramps.above(self.ramps.totals(self.x, self.place, weight))

    @property
    def itself(self) -> float:
        """H(0)."""
        return 0.5 if self.ramps.delta else 1.0

    def gradient(self, positive: Tensor, weight: Tensor) -> Tensor:
        """The table of updates: those of the positives (P,) as given, and for each negative y the sum of weight
        H(y - x). Times the number of processes, by which a distributed wrapper divides."""
        gradient = torch.zeros_like(self.table).reshape(-1)
        times = len(self.counts)
        for rows, bucket in self.chunks:
            gradient.scatter_(0, rows, self.ramps.below(weight * times, self._scores(rows), bucket).to(gradient.dtype))
        gradient.scatter_(0, self.at, (positive[self.mine] * times).to(gradient.dtype))
        return gradient.reshape(self.table.shape)


class _Driven(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, out: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * out, None, None


def driven(logits: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """The value, with that gradient: the error-driven update of a loss that has no derivative of its own."""
    return _Driven.apply(logits, value.to(logits.dtype), gradient)


def check_delta(delta: float) -> None:
    """Raise the ValueError of a half length of ramps that is out of range."""
    require(delta == 0 or 1e-3 <= delta < float("inf"), "delta", "0 or at least 0.001", delta)


def _counts(at: Tensor) -> list[int]:
    """How many positives each process has."""
    if world_size() == 1:
        return [len(at)]
    count = at.new_tensor([len(at)])
    counts = [torch.empty_like(count) for _ in range(world_size())]
    dist.all_gather(counts, count)
    return torch.cat(counts).tolist()


def _from_the_top(values: Tensor) -> Tensor:
    """(n + 1,) the sum of each value and all after it; 0 at the end."""
    return torch.cat((values.flip(0).cumsum(0).flip(0), values.new_zeros(1)))
