"""The predictors' ledgers of samples, summed over partitions; no clock, no Kafka."""

from __future__ import annotations

from dataclasses import dataclass

from repstream.messages.messages import LEDGER_FATES, LedgerEntry


@dataclass(frozen=True)
class LedgerSums:
    """What became of all samples that a group of predictors took in.

    Attributes
    ----------
    group : str
    partitions : int
        How many have told.
    at : float or None
        Wall clock of the newest entry, epoch seconds.
    gaps : int
        Gaps that restarted a window.
    samples : dict of str to int
        "sent" and each of `LEDGER_FATES`, and whatever else a newer predictor tells apart.
    difference : int
        Sent minus all others; 0 where the ledger adds up.
    """

    group: str
    partitions: int
    at: float | None
    gaps: int
    samples: dict[str, int]
    difference: int


class Ledgers:
    """The newest entry of each partition of one group.

    Parameters
    ----------
    group : str
        Entries of other groups are left out: they count the same samples again.
    """

    def __init__(self, group: str) -> None:
        self._group = group
        self._newest: dict[int, LedgerEntry] = {}

    def add(self, entry: LedgerEntry) -> None:
        """Take an entry; those of a partition come in the order in which they were written."""
        if entry.group == self._group:
            self._newest[entry.partition] = entry

    def sums(self) -> LedgerSums:
        """Add up what the partitions have told last."""
        entries = self._newest.values()
        samples = dict.fromkeys(("sent", *LEDGER_FATES), 0)
        for entry in entries:
            for fate, n in entry.samples.items():
                samples[fate] = samples.get(fate, 0) + n
        return LedgerSums(
            group=self._group,
            partitions=len(entries),
            at=max((e.at for e in entries), default=None),
            gaps=sum(e.gaps for e in entries),
            samples=samples,
            difference=2 * samples["sent"] - sum(samples.values()),
        )
