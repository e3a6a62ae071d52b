"""Maps of the village green and the explorer in which the reader rates."""

import json
import re

import torch

from rlhf_minimal.book import maps
from rlhf_minimal.village import grid


def test_the_map_of_a_few_clicks_is_the_most_probable_one():
    pairs, choices = maps.ten_pairs(), [1.0, 0.0, 1.0]
    found = maps.few_clicks(pairs, choices)
    gram, spread = maps._kernel(pairs)
    weight = torch.zeros(3, dtype=torch.float64, requires_grad=True)  # the same problem, by another optimiser
    optimiser = torch.optim.LBFGS([weight], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(gram[:3, :3] @ weight, torch.tensor(choices).double(),
                                                                     reduction="sum") + weight @ gram[:3, :3] @ weight / 2
        value.backward()
        return value
    optimiser.step(loss)
    assert (spread[:, :3] @ weight.detach() - found).abs().max() < 1e-4


def test_no_click_no_map_and_opposite_clicks_opposite_maps():
    pairs = maps.ten_pairs()
    assert maps.few_clicks(pairs, []).abs().max() == 0
    assert torch.allclose(maps.few_clicks(pairs, [1.0] * 4), -maps.few_clicks(pairs, [0.0] * 4))
    assert maps.few_clicks(pairs, [1.0])[pairs[0][0]].mean() > maps.few_clicks(pairs, [1.0])[pairs[0][1]].mean()


def test_the_explorer_works_without_a_kernel():
    pairs = maps.ten_pairs()
    page = maps.page(pairs, [1.0] * 10, grid.true_reward(), "rate")
    data = json.loads(re.search(r"const d=(\{.*?\}),box", page).group(1))
    assert len(data["walks"]) == len(data["gram"]) == 10 and len(data["spread"]) == 64
    assert data["walks"][0][0] == pairs[0][0].tolist()
    assert "I prefer A" in page and "http" not in page
    for word in ("DATA", "NAME", "SIDE", "MIDDLE"):
        assert word not in page  # every place of the script is filled


def test_heat_maps_say_what_they_show():
    fig = maps.heat_maps({"true reward": grid.true_reward(), "learned": grid.true_reward()}, title="Two maps",
                         walks={"learned": [torch.tensor([0, 1, 2])]})
    assert len(fig.axes) == 2 and "true reward, learned" in fig.alt


def test_three_heat_maps_leave_the_fourth_place_empty():
    fig = maps.heat_maps({name: grid.true_reward() for name in "abc"}, title="Three maps")
    assert [ax.get_visible() for ax in fig.axes] == [True, True, True, False]
