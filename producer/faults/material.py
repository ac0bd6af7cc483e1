"""Recordings of an exercise that a fault can put into another one; imports repstream.recordings.catalogue."""

from __future__ import annotations

from repstream.faults.draw import Draw
from repstream.recordings.catalogue import catalogue
from repstream.recordings.recording import Recording


def recording_of(exercise: str, like: Recording, draw: Draw) -> Recording:
    """Choose a recording of the catalogue in which nothing but `exercise` is done.

    Of the same subject and wrist where there is one, else of the same wrist (of any, where that is
    not known); among several, the draw decides.

    Parameters
    ----------
    exercise : str
        A label of the catalogue's.
    like : Recording
        The one that it goes into.
    """
    found = [r for r in catalogue() if r.labels is not None and (r.labels == exercise).all()]
    of_wrist = [r for r in found if like.side in (r.side, "unknown")]
    of_subject = [r for r in of_wrist if r.subject == like.subject]
    fitting = of_subject or of_wrist
    return fitting[int(draw.share() * len(fitting))]
