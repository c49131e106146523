"""Errors that say what, where, why it matters and what to do, and the exit code of each kind.

Inner layers know facts and raise the specific kind; boundaries (the CLI, later the app) print `str(error)` and
exit with `error.exit_code`. Nothing in osml raises a bare Exception at a user.
"""

from __future__ import annotations

EXIT_FINE = 0
EXIT_USER = 1
EXIT_CHECK = 2
EXIT_INTERNAL = 3


class OsmlError(Exception):
    """Base of every error meant for a user.

    Parameters
    ----------
    what : str
        One sentence: the fact, with values and file:line or patient ids.
    why : str, optional
        Why it matters.
    do : str, optional
        The next step.
    """

    exit_code = EXIT_USER

    def __init__(self, what: str, *, why: str = "", do: str = "") -> None:
        self.what, self.why, self.do = what, why, do
        super().__init__("\n  ".join(part for part in (what, why, do) if part))

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (fold workers); keyword-only arguments need help there.
        return _rebuild, (type(self), self.what, self.why, self.do)


def _rebuild(kind: type[OsmlError], what: str, why: str, do: str) -> OsmlError:
    return kind(what, why=why, do=do)


class SchemaError(OsmlError):
    """The YAML is not a valid schema. All problems found are listed, each with file:line."""


class TableError(OsmlError):
    """The table cannot be read as the schema says. All problems found are listed."""


class CheckError(OsmlError):
    """A coded data check refuses the study and was not accepted in `checks.accept`."""

    exit_code = EXIT_CHECK


class InvalidInputError(OsmlError, ValueError):
    """An array handed to a statistic has the wrong shape, NaN, or values outside its domain."""


class NotEstimableError(OsmlError, ArithmeticError):
    """The quantity does not exist on these data (separation, zero variance, no events)."""


class ConvergenceError(NotEstimableError):
    """An iteration stopped before its criterion; no unconverged number is returned."""


class VerificationError(OsmlError):
    """A nomogram, bundle or file does not reproduce the model it claims to be."""


class ArchiveError(OsmlError):
    """An archive of files is refused as a whole; nothing of it is kept."""


class TrustError(OsmlError):
    """Files that can run code when they are read, and that nobody said to trust."""


class MissingExtraError(OsmlError, ImportError):
    """An optional package is needed for what was asked."""


class RunError(OsmlError):
    """A run directory is missing, damaged, unfinished or made by a newer osml."""


class OutOfTimeError(OsmlError):
    """A task was not finished at its deadline and was stopped; nothing of it is kept."""


class WorkerLostError(OsmlError):
    """The process that ran a task died, and died again when the task was run by itself."""


class ClusterError(OsmlError):
    """A cluster cannot be used: out of reach, of other versions, or without the files."""


def missing_extra(package: str, extra: str, purpose: str) -> MissingExtraError:
    """Error for an optional package, with the exact install line.

    >>> print(missing_extra("timm", "nets", "image encoders"))
    timm is not installed; it is needed for image encoders.
      Install it with: pip install 'osml[nets]'
    """
    return MissingExtraError(
        f"{package} is not installed; it is needed for {purpose}.", do=f"Install it with: pip install 'osml[{extra}]'"
    )
