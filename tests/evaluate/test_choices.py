import pytest
import torch

from rlhf_minimal.evaluate import choices
from rlhf_minimal.evaluate.exact import exact_model


class Letters:
    """A tokenizer of three letters, for a model of three tokens."""

    class _Ids:
        def __init__(self, ids):
            self.input_ids = ids

    def __call__(self, text, add_special_tokens=True):
        return self._Ids([".ab".index(c) for c in text])


def test_option_logps_are_sums_over_the_option_alone():
    model = exact_model(0)
    logp, tokens = choices.option_logps(model, Letters(), ["a", "b"], [["b", "a."], ["a", "bb"]], size=3)
    assert tokens.tolist() == [[1, 2], [1, 2]]
    for i, prompt in enumerate(([1], [2])):
        for k, said in enumerate((([2], [1, 0]), ([1], [2, 2]))[i]):
            ids, naive = prompt + said, 0.0
            for t in range(len(prompt), len(ids)):
                naive += torch.log_softmax(model(torch.tensor([ids[:t]])).logits[0, -1], -1)[ids[t]].item()
            assert abs(logp[i, k].item() - naive) < 1e-4


def test_rules_and_letters():
    logp, tokens = torch.tensor([[-2.0, -3.0], [-1.0, -5.0]]), torch.tensor([[1, 3], [1, 2]])
    assert choices.chosen(logp, tokens).tolist() == [0, 0] and choices.chosen(logp, tokens, "per token").tolist() == [1, 0]
    assert choices.lettered("Which?", ["x", "y", "z"]).endswith("C. z\nAnswer:")


@pytest.mark.parametrize("call", [
    lambda: choices.option_logps(None, Letters(), ["a"], [["b"], ["a"]]),
    lambda: choices.option_logps(None, Letters(), ["a", "b"], [["b"], ["a", "b"]]),
    lambda: choices.option_logps(None, Letters(), ["a"], [["b", ""]]),
    lambda: choices.chosen(torch.zeros(1, 2), torch.ones(1, 2), "first"), lambda: choices.lettered("Which?", ["x"])])
def test_bad_input(call):
    with pytest.raises(ValueError):
        call()
