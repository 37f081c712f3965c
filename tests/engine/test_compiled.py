"""Loops serve where nothing can be kept, and take no types but their own."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from engine.compiled import compiled


def doubled(values: Any) -> Any:
    return values * 2


def test_other_types_are_an_error_not_another_compilation() -> None:
    loop: Any = compiled("f4[::1](f4[::1])")(doubled)
    assert loop(np.ones(2, np.float32)).tolist() == [2, 2]
    with pytest.raises(TypeError, match="No matching definition"):
        loop(np.ones(2, np.float64))


def test_an_installation_that_cannot_be_written_compiles_at_every_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jit, asked = numba.njit, []

    def without_a_cache(*signatures: Any, cache: bool = False, **options: Any) -> Any:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return jit(*signatures, **options)

    monkeypatch.setattr(numba, "njit", without_a_cache)
    loop: Any = compiled("f4[::1](f4[::1])")(doubled)
    assert loop(np.ones(1, np.float32)).tolist() == [2]
    assert asked == [True, False]
