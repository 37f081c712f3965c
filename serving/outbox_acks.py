"""What went out is taken down twice: in the outbox, and in the ledger, where it counts for caps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from engine.push_outbox import Outbox
from serving.unbroken import unbroken


class Confirmer(Protocol):
    """Who keeps ledgers: serving.push.Pusher."""

    async def confirm(self, went_out: Sequence[tuple[str, str]]) -> None:
        """(user_id, message_id) of messages that went out, whatever is reported of them."""


class Acknowledgements:
    """Takes down claims that went out; raises StoreUnavailable."""

    def __init__(self, outbox: Outbox, confirmer: Confirmer) -> None:
        self._outbox = outbox
        self._confirmer = confirmer

    async def take(self, claim_ids: Sequence[str]) -> set[str]:
        """Returns those that were handed out. One taken twice changes nothing.

        Both are told although the caller may leave in between.
        """
        return await unbroken(self._take(claim_ids))

    async def _take(self, claim_ids: Sequence[str]) -> set[str]:
        known = await self._outbox.ack(claim_ids)
        await self._confirmer.confirm(list(known.values()))
        return set(known)
