"""Every error that Kairos raises on purpose.

KairosError
├── InvalidInput        outside bytes were wrong: names the field and what was expected
├── NotFound            the id asked for is not known
├── SettingsError       a setting or configuration file is wrong: names the key or line
├── StoreUnavailable    Redis did not answer in time, or refused
├── StoreDamaged        what the store holds is not what was written there
├── StoreUnfit          the server at this address must not hold the log (said at start)
├── Overloaded          taking more would endanger what was acknowledged: try again later
└── Fenced              another folder owns the partition now: drop what was cached
"""

from __future__ import annotations


class KairosError(Exception):
    """Base of all errors raised on purpose."""


class InvalidInput(KairosError):
    """Outside input was refused; `field` names the key, `detail` says what was expected."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.field = field
        self.detail = detail


class NotFound(KairosError):
    """Nothing is known under this id."""


class SettingsError(KairosError):
    """A setting or a configuration file cannot be used."""


class StoreUnavailable(KairosError):
    """The store did not answer in time or refused the command."""


class StoreDamaged(KairosError):
    """What the store holds cannot be read: damage, or another program's doing."""


class StoreUnfit(KairosError):
    """The server answers, but must not hold the log as it is configured."""


class Overloaded(KairosError):
    """Ingestion pushes back; `retry_after_s` says when to try again."""

    def __init__(self, detail: str, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Fenced(KairosError):
    """A commit was refused: the partition's owner or offset is no longer this folder's."""
