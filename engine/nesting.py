"""How deeply JSON nests, read from its bytes before anything is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.compiled import compiled

MAX_DEPTH = 32
OPENING, CLOSING, QUOTE, ESCAPE = ord("["), ord("]"), ord('"'), ord("\\")
TO_BRACE = ord("{") - ord("[")  # also from the closing bracket to the closing brace


def too_deep(body: bytes, limit: int = MAX_DEPTH) -> bool:
    """Whether lists and objects are open in more than `limit` levels at once.

    Bytes that are no JSON have some depth as well: what they are is for the decoder to say.
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    return bool(_deepest(np.frombuffer(body, np.uint8)) > limit)


@compiled("i8(Array(u1, 1, 'C', readonly=True))")
def _deepest(body: Any) -> int:
    """The most levels that are open at once, brackets inside of strings left out."""
    level, deepest = 0, 0
    quoted, escaped = False, False
    for byte in body:
        if quoted:
            if escaped:
                escaped = False
            elif byte == ESCAPE:
                escaped = True
            elif byte == QUOTE:
                quoted = False
        elif byte == QUOTE:
            quoted = True
        elif byte == OPENING or byte == OPENING + TO_BRACE:
            level += 1
            deepest = max(deepest, level)
        elif byte == CLOSING or byte == CLOSING + TO_BRACE:
            level -= 1
    return deepest
