"""Supervised fine-tuning: the next-token loss on the tokens that the mask names.

Whether these are the completion's tokens alone or the prompt's too is decided where the mask is made, never here (H2).
"""


from .aggregate import aggregate
from .equations import implements
from .logprobs import token_logps
from .optim import update
from .tensors import check_mask


@implements("eq:nll")
def sft_loss(logp, mask, *, denominator=None):
    """-sum(log p) / number of masked tokens -> (loss in nats a token, stats). logp, mask (B, T).

    denominator: the tokens of the *whole* optimizer step, when this batch is a part of it (H1, E14).
    ValueError on an empty mask without a denominator, on unequal shapes, on NaN at a masked place.

    >>> loss, stats = sft_loss(torch.tensor([[0.5, 0.25]]).log(), torch.ones(1, 2))
    >>> round(loss.item(), 4), round(stats["perplexity"].item(), 4)  # (log 2 + log 4) / 2, 2 sqrt 2
    (1.0397, 2.8284)
    """
    loss = aggregate(-logp, mask, "token_mean", denominator=denominator)
    logp, m = check_mask(logp.detach(), mask, "logp")
    nll = -logp.sum() / m.sum().clamp(min=1)
    return loss, {"loss": loss.detach(), "nll": nll, "perplexity": nll.exp(), "tokens": m.sum()}


def step(model, optimizer, batch, *, max_norm=1.0, denominator=None):
    """One SFT update -> stats. batch: ids, attention, mask (B, L); the mask is 1 on what is learned, EOS too (A5)."""
    mask = batch["mask"][:, 1:]  # labels shift once (H3)
    logp = token_logps(model, batch["ids"], batch["attention"], wanted=mask)
    loss, stats = sft_loss(logp, mask, denominator=denominator)
    return stats | {"grad_norm": update(loss, optimizer, max_norm=max_norm)}
