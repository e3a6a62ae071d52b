"""The village's report and its card."""

import re
from pathlib import Path

import pytest

from rlhf_minimal import village as v
from rlhf_minimal.village import __main__ as report
from tests.village.examples import GROUPS, disagreement

ROOT = Path(__file__).parents[2]


def test_card_agrees_with_points_and_weights():
    text = (ROOT / "data" / "village.md").read_text(encoding="utf-8")
    families, feats = report.card().split("\n\n")
    assert families in text and feats in text, "paste `python -m rlhf_minimal.village --card` into data/village.md"
    rows = {c[1].strip(): c for line in text.splitlines() if len(c := re.split(r"(?<!\\)\|", line)) > 5}
    for family, points in v.POINTS.items():
        if family != "other":
            assert dict(x.split() for x in rows[family][4].split(",")) == {k: f"{w:g}" for k, w in points.items()}
            for name, w in points.items():
                assert f"{w:g} ({family})" in rows[name][2]
    for name, w in v.WEIGHTS.items():
        assert float(rows[name][2]) == w
    for name, (prompt, completion) in report.EXAMPLES.items():
        assert v.features(prompt, completion)[name] > 0
        assert float(rows[name][6]) == pytest.approx(v.gold(prompt, completion), abs=0.0051)
    assert set(report.EXAMPLES) == set(v.FEATURES) - {"grammar"}


def test_report_prints_agreement_statistics_and_samples(capsys):
    print(report.statistics(50, 200), report.samples(20), sep="\n")
    out = capsys.readouterr().out
    assert not [name for prompt, cases in GROUPS.values() for name in cases if disagreement(prompt, cases, name)]
    assert "10 million words" in out and len(re.findall(r"^\[", out, re.M)) == 20
    report.main(["--card"])
    assert capsys.readouterr().out.strip() == report.card()
    with pytest.raises(SystemExit, match="--nonsense"):
        report.main(["--nonsense"])
