"""The family of errors that people meet, each with its exit code.

Every message says what was expected, what was found, where, and what to do. Each class is also the built-in error a
caller would expect (``ValueError``, ``LookupError``, ...), so that code which knows nothing of smae can catch it.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_QUARANTINED = 3
EXIT_DATA = 4
EXIT_ENVIRONMENT = 5
EXIT_LOCKED = 6
EXIT_NON_FINITE = 7


class SmaeError(Exception):
    """Base of all errors that smae raises on purpose."""

    exit_code = EXIT_BUG


class ConfigError(SmaeError, ValueError):
    """A setting, option or recipe is wrong; nothing was started."""

    exit_code = EXIT_USAGE


class UnknownNameError(ConfigError, LookupError):
    """A name that no registry, protocol or recipe knows; the message carries the nearest one."""


class DataError(SmaeError, ValueError):
    """A store, checkpoint or input cannot be used, or does not match what is asked of it."""

    exit_code = EXIT_DATA


class EnvironmentFault(SmaeError, OSError):
    """Disk, memory, permission or device: the same command can succeed later, and resumes."""

    exit_code = EXIT_ENVIRONMENT


class LockedError(SmaeError, OSError):
    """Another process is writing the same output."""

    exit_code = EXIT_LOCKED


class NonFiniteError(SmaeError, ArithmeticError):
    """A loss or gradient became NaN or infinite; the step was not taken."""

    exit_code = EXIT_NON_FINITE


class Interrupted(SmaeError):
    """A signal asked for a stop; the work can be resumed. Exit code 128 + signal: 130 or 143."""

    def __init__(self, message: str, signal: int = 2) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


class BadRecording(SmaeError, ValueError):
    """One raw file breaks the format.

    Attributes:
        code: short machine-readable kind (``truncated``, ``fields``, ``joint-count``, ...).
        line: 1-based line, 0 where no line applies.
        column: 1-based column, 0 where no column applies.
        excerpt: escaped piece of the offending text.
        path: the file, where the message must name it; empty where a list does.
    """

    exit_code = EXIT_DATA
    path = ""

    def __init__(self, code: str, message: str, *, line: int = 0, column: int = 0, excerpt: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.line, self.column, self.excerpt = code, message, line, column, excerpt

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.code, self.message, self.line, self.column, self.excerpt)

    def __str__(self) -> str:
        where = [ascii(self.path)[1:-1]] * bool(self.path) + [str(self.line), str(self.column)] * bool(self.line)
        return ": ".join([":".join(where), f"{self.code}: {self.message}"]).removeprefix(": ")


def _rebuild(code: str, message: str, line: int, column: int, excerpt: str) -> BadRecording:
    return BadRecording(code, message, line=line, column=column, excerpt=excerpt)


class NoBody(SmaeError, ValueError):
    """A well-formed recording in which no body was seen: it is excluded, not quarantined."""

    exit_code = EXIT_DATA
