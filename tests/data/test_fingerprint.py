"""Fingerprints: the same for the same contents, another for any change; `compare` names what changed."""

import pytest
import torch

from rlhf_minimal.data import fingerprint


def test_rows():
    rows = [{"prompt": "a", "n": 1}, {"prompt": "b", "n": 2}]
    assert fingerprint.of_rows(rows) == fingerprint.of_rows([dict(reversed(r.items())) for r in rows])
    for other in (rows[::-1], rows[:1], [rows[0] | {"n": 3}, rows[1]], [r | {"more": None} for r in rows]):
        assert fingerprint.of_rows(other) != fingerprint.of_rows(rows)


def test_weights(tiny_gpt2):
    a, b, c = tiny_gpt2(), tiny_gpt2(), tiny_gpt2(seed=1)
    assert fingerprint.of_weights(a) == fingerprint.of_weights(b) != fingerprint.of_weights(c)
    with torch.no_grad():
        b.transformer.wte.weight[0, 0] += 1e-6
    assert fingerprint.of_weights(a) != fingerprint.of_weights(b)
    assert fingerprint.of_weights(a.bfloat16()) == fingerprint.of_weights(tiny_gpt2().bfloat16())


def test_what_changed_is_named(tmp_path):
    then = {"fingerprints": {"data": "1", "policy": "2", "judge": "3"}}
    fingerprint.compare(tmp_path, then, {"data": "1", "policy": "2", "judge": "3"})
    fingerprint.compare(tmp_path, None, {"data": "1"})
    with pytest.raises(ValueError, match=r"policy and reference.*: 2, now 9; the weights of the judge.*: 3, now 8") as error:
        fingerprint.compare(tmp_path, then, {"data": "1", "policy": "9", "judge": "8"})
    assert "the rows" not in str(error.value)
    with pytest.warns(UserWarning, match="no fingerprints"):
        fingerprint.compare(tmp_path, {"steps": 3}, {"data": "1"})
