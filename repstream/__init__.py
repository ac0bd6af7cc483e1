"""Repstream: live exercise recognition from wearable motion sensors, on Apache Kafka.

For notebooks and scripts, ``import repstream`` offers what needs no Kafka, by name, and imports each part
when it is first used::

    import repstream

    model = repstream.load_model("spar")
    recordings = repstream.load_recordings("spar/s08-*")
    repstream.score(recordings[0], model).to_frame()
    repstream.evaluate(recordings, model).accuracy

This package is the vocabulary that the services share; it imports none of them. Services are commands:
see ``repstream --help``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repstream.errors import FeatureError as FeatureError
    from repstream.errors import ModelError as ModelError
    from repstream.errors import RecordingError as RecordingError
    from repstream.errors import RepstreamError as RepstreamError
    from repstream.features.sets import FeatureSet as FeatureSet
    from repstream.features.sets import feature_set as feature_set
    from repstream.recognition.classification import Classification as Classification
    from repstream.recognition.classification import LabelScore as LabelScore
    from repstream.recognition.evaluation import evaluate as evaluate
    from repstream.recognition.model import Model as Model
    from repstream.recognition.model import load_model as load_model
    from repstream.recognition.scoring import Scores as Scores
    from repstream.recognition.scoring import feature_table as feature_table
    from repstream.recognition.scoring import score as score
    from repstream.recognition.scoring import score_table as score_table
    from repstream.recordings.catalogue import catalogue as catalogue
    from repstream.recordings.catalogue import load_recordings as load_recordings
    from repstream.recordings.recording import Recording as Recording
    from repstream.recordings.tables import SourceFormat as SourceFormat
    from repstream.recordings.tables import read_recording as read_recording
    from repstream.recordings.tables import write_recording as write_recording
    from repstream.windows.cut import WindowSet as WindowSet
    from repstream.windows.cut import cut as cut_windows

__version__ = "0.1.0"

__all__ = [
    "Classification",
    "FeatureError",
    "FeatureSet",
    "LabelScore",
    "Model",
    "ModelError",
    "Recording",
    "RecordingError",
    "RepstreamError",
    "Scores",
    "SourceFormat",
    "WindowSet",
    "__version__",
    "catalogue",
    "cut_windows",
    "evaluate",
    "feature_set",
    "feature_table",
    "load_model",
    "load_recordings",
    "read_recording",
    "score",
    "score_table",
    "write_recording",
]

# Where each name is defined, by the module; "module:name" where it has another name there.
_WHERE = {
    "Classification": "repstream.recognition.classification",
    "FeatureError": "repstream.errors",
    "FeatureSet": "repstream.features.sets",
    "LabelScore": "repstream.recognition.classification",
    "Model": "repstream.recognition.model",
    "ModelError": "repstream.errors",
    "Recording": "repstream.recordings.recording",
    "RecordingError": "repstream.errors",
    "RepstreamError": "repstream.errors",
    "Scores": "repstream.recognition.scoring",
    "SourceFormat": "repstream.recordings.tables",
    "WindowSet": "repstream.windows.cut",
    "catalogue": "repstream.recordings.catalogue",
    "cut_windows": "repstream.windows.cut:cut",
    "evaluate": "repstream.recognition.evaluation",
    "feature_set": "repstream.features.sets",
    "feature_table": "repstream.recognition.scoring",
    "load_model": "repstream.recognition.model",
    "load_recordings": "repstream.recordings.catalogue",
    "read_recording": "repstream.recordings.tables",
    "score": "repstream.recognition.scoring",
    "score_table": "repstream.recognition.scoring",
    "write_recording": "repstream.recordings.tables",
}


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        """Import what a name stands for when it is first used (PEP 562)."""
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, there = _WHERE[name].partition(":")
        found = getattr(importlib.import_module(module), there or name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
