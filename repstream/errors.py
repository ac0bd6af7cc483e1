"""The exceptions that Repstream raises on purpose; imports nothing of ours.

::

    RepstreamError
    ├── RecordingError     a recording cannot be read or written as asked
    ├── MessageError       a message is not what its topic carries (has a ``reason``)
    ├── FeatureError       an unknown feature set, windows of a wrong shape
    ├── ModelError         a model is missing, altered or made by other libraries
    ├── SettingsError      a setting is outside what is allowed
    └── BrokerError        Kafka does not answer or refuses
        └── BrokerUnavailableError   (retriable) it may answer later

Their text is one sentence for the person at the keyboard: what was refused, where, what to do.
"""


class RepstreamError(Exception):
    """Root of all expected failures.

    Attributes
    ----------
    retriable : bool
        Whether the same call can succeed later without anyone changing anything.
    """

    retriable: bool = False


class RecordingError(RepstreamError):
    """A recording cannot be read or written as asked.

    Parameters
    ----------
    problem : str
        What was refused, and why.
    where : Path or str
        The file; the text begins with it.
    cure : str
        What to do, in the words of the command line; the text ends with it.
    setting : str
        What of how the file was to be read is probably wrong: ``time-unit``, ``accel-unit``, or a canonical column.
        A front with controls of its own words the cure by it.
    """

    def __init__(self, problem: str, *, where: object = "", cure: str = "", setting: str = "") -> None:
        super().__init__((f"{where}: " if where else "") + problem + (f"; {cure}" if cure else ""))
        self.problem = problem
        self.cure = cure
        self.setting = setting


class MessageError(RepstreamError):
    """A message is not what its topic carries.

    Parameters
    ----------
    reason : str
        One of a few fixed words (a metric label and the dead letter's header).
    detail : str
        What exactly was wrong.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class FeatureError(RepstreamError):
    """An unknown feature set, or windows that it cannot take."""


class ModelError(RepstreamError):
    """A model is missing, was altered, or was made by other library versions."""


class SettingsError(RepstreamError):
    """A setting is outside what is allowed."""


class BrokerError(RepstreamError):
    """Kafka, or the embedded broker, refuses or fails."""


class BrokerUnavailableError(BrokerError):
    """Kafka does not answer now; it may answer later."""

    retriable = True
