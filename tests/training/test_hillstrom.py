"""Hillstrom's trial as random decisions, where it is."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from engine.errors import NotFound
from training.hillstrom import ARMS, NAME, read_mailing
from training.movielens import data_folder


@pytest.mark.skipif(
    not (data_folder() / NAME / f"{NAME}.parquet").is_file(),
    reason="Hillstrom's trial is not under KAIROS_DATA",
)
@pytest.mark.parametrize(
    ("mail", "visit", "conversion"),
    [("men's mail", 0.1828, 0.01253), ("women's mail", 0.1514, 0.00884)],
)
def test_published_rates(mail: str, visit: float, conversion: float) -> None:
    mailing = read_mailing(data_folder(), mail)

    for name, rate, without in (
        ("visit", visit, 0.1062),
        ("conversion", conversion, 0.00573),
    ):
        outcome = mailing.outcomes[name]
        assert outcome[mailing.treated].mean() == pytest.approx(rate, abs=5e-5)
        assert outcome[~mailing.treated].mean() == pytest.approx(without, abs=5e-5)
    assert mailing.features.shape == (len(mailing.treated), 11)
    assert abs(mailing.treated.mean() - 0.5) < 0.01


def test_one_mail_beside_none(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    same = {"recency": 1, "history": 2.5, "mens": 1, "womens": 0, "newbie": 0, "conversion": 0}
    rows = [
        same | {"segment": segment, "visit": n % 2, "zip_code": "Rural", "channel": channel}
        for n, (segment, channel) in enumerate(
            [("Mens E-Mail", "Web"), ("Womens E-Mail", "Phone"), ("No E-Mail", "Web")]
        )
    ]
    pl.DataFrame(rows).write_parquet(tmp_path / NAME / f"{NAME}.parquet")

    mailing = read_mailing(tmp_path, "women's mail")

    assert list(ARMS) == ["men's mail", "women's mail"]
    assert mailing.treated.tolist() == [True, False]
    assert mailing.outcomes["visit"].tolist() == [1, 0]
    # recency, history, mens, womens, newbie, Rural; then Phone and Web
    assert mailing.features.tolist() == [[1, 2.5, 1, 0, 0, 1, 1, 0], [1, 2.5, 1, 0, 0, 1, 0, 1]]


def test_a_missing_file_says_where_it_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="KAIROS_DATA"):
        read_mailing(tmp_path, "men's mail")
