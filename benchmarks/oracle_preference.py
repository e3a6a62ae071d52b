"""Preference losses and reward models against TRL: from logits to the scalar, gradients in every logit."""

from types import SimpleNamespace

import torch
from transformers.modeling_outputs import SequenceClassifierOutput

from rlhf_minimal import direct_alignment as da
from rlhf_minimal.logprobs import sequence_logps
from rlhf_minimal.reward_model import pairwise_loss

from .oracle_rows import Table, lay_out, pull, row
from .oracle_trl import CPOTrainer, DPOTrainer, KTOTrainer, ORPOTrainer, RewardTrainer, bare


def ours_paired(loss_fn, *, average=False, reference=True, **settings):
    """Our side of a row: (batch, logits) -> loss, the reference scored by the same function."""

    def loss(batch, z):
        def score(table):
            return sequence_logps(Table((batch.ids, table)), batch.ids, batch.attention, batch.mask, average=average).chunk(2)

        return loss_fn(*score(z), *(score(batch.ref) if reference else ()), **settings)[0]

    return loss


def trl_dpo(loss_type, *, beta=0.1, label_smoothing=0.0):
    """TRL's side: DPOTrainer._compute_loss, the reference as a second model."""

    def loss(batch, z):
        trainer = bare(
            DPOTrainer, ref_model=Table((batch.ids, batch.ref)), precompute_ref_logps=False, ld_alpha=None, beta=beta,
            f_divergence_type="reverse_kl", loss_types=[loss_type], loss_weights=[1.0], label_smoothing=label_smoothing,
            use_weighting=False,
        )
        inputs = {"input_ids": batch.ids, "attention_mask": batch.attention, "completion_mask": batch.mask}
        return trainer._compute_loss(Table((batch.ids, z)), inputs, False)

    return loss


def trl_concatenated(cls, *, parts=None, **settings):
    """TRL's side for CPO and ORPO: get_batch_loss_metrics on a chosen and a rejected half."""

    def loss(batch, z):
        batch_of, half = {}, len(batch.ids) // 2
        labels = torch.where(batch.mask.bool(), batch.ids, -100)
        for side, rows in (("chosen", slice(half)), ("rejected", slice(half, None))):
            for key, x in (("input_ids", batch.ids), ("attention_mask", batch.attention), ("labels", labels)):
                batch_of[f"{side}_{key}"] = x[rows]
        common = {"is_encoder_decoder": False, "pad_token_id": 0, "padding_value": 0, "label_smoothing": 0.0, "alpha": 0.0}
        trainer = bare(cls, **(common | settings))
        total, metrics = trainer.get_batch_loss_metrics(Table((batch.ids, z)), batch_of)
        return total if parts is None else parts(trainer, Table((batch.ids, z)), batch_of)

    return loss


def against(ours, theirs):
    """A row's function from the two sides of a preference loss."""

    def fn(case):
        batch = lay_out(case, left=False)
        return pull(lambda z: ours(batch, z), batch.logits), pull(lambda z: theirs(batch, z), batch.logits)

    return fn


def compare(name, ours_name, outside, ours, theirs, **more):
    """Declare a row from the two sides of a preference loss."""
    row(name, ours_name, outside, **more)(against(ours, theirs))


def paired(name, ours, theirs, **more):
    """Declare a row of the DPO family: our function and settings against a TRL loss type and settings."""
    fn, settings = ours
    loss_type, trl_settings = theirs
    outside = f"DPOTrainer._compute_loss, loss_type={loss_type!r}"
    theirs = trl_dpo(loss_type, **trl_settings)
    compare(name, f"direct_alignment.{fn.__name__}", outside, ours_paired(fn, **settings), theirs, **more)


for _beta in (0.1, 0.5):
    paired(f"DPO, beta {_beta}", (da.dpo_loss, {"beta": _beta}), ("sigmoid", {"beta": _beta}))
    paired(f"IPO on averages, beta {_beta}", (da.ipo_loss, {"beta": _beta, "average": True}), ("ipo", {"beta": _beta}))
    paired(f"hinge, beta {_beta}", (da.hinge_loss, {"beta": _beta}), ("hinge", {"beta": _beta}))
paired("robust DPO, 20 % flipped", (da.rdpo_loss, {"label_smoothing": 0.2}), ("robust", {"label_smoothing": 0.2}))
paired("APO-zero", (da.apo_zero_loss, {}), ("apo_zero", {}))
paired("APO-down", (da.apo_down_loss, {}), ("apo_down", {}))
paired("DPO on averages", (da.dpo_loss, {"average": True}), ("sigmoid_norm", {}))
paired("cDPO, 20 % flipped", (da.dpo_loss, {"label_smoothing": 0.2}), ("sigmoid", {"label_smoothing": 0.2}), item="G3",
       why="TRL takes label_smoothing and leaves it out of loss_type='sigmoid'; its loss is that of smoothing 0")
paired("cDPO against robust", (da.dpo_loss, {"label_smoothing": 0.2}), ("robust", {"label_smoothing": 0.2}), item="G3",
       why="cDPO mixes both directions, robust DPO subtracts the flipped one and divides by 1 - 2e: two losses")
paired("hinge, 20 % flipped", (da.hinge_loss, {"label_smoothing": 0.2}), ("hinge", {"label_smoothing": 0.2}), item="G3",
       why="TRL's hinge ignores label_smoothing")
paired("IPO on sums", (da.ipo_loss, {}), ("ipo", {}), item="G4",
       why="TRL divides each log-ratio by its number of tokens, the authors' correction; sums are the equation as printed")

CPO, ONE = "CPOTrainer.get_batch_loss_metrics", {"reference": False}
SIGMOID = {"loss_type": "sigmoid", "beta": 0.1}
compare("CPO, preference part", "direct_alignment.cpo_loss", CPO + ", cpo_alpha=0",
        ours_paired(da.cpo_loss, **ONE, alpha=0.0), trl_concatenated(CPOTrainer, **SIGMOID, cpo_alpha=0.0))
compare("CPO, preference part, 20 % flipped", "direct_alignment.cpo_loss", CPO + ", cpo_alpha=0",
        ours_paired(da.cpo_loss, **ONE, alpha=0.0, label_smoothing=0.2),
        trl_concatenated(CPOTrainer, **SIGMOID, cpo_alpha=0.0, label_smoothing=0.2))
compare("CPO with its likelihood term", "direct_alignment.cpo_loss", CPO + ", cpo_alpha=1",
        ours_paired(da.cpo_loss, **ONE), trl_concatenated(CPOTrainer, **SIGMOID, cpo_alpha=1.0), item="E6",
        why="ours is the paper's sum over the tokens of an answer; TRL averages over the tokens of the batch")
for _beta, _gamma in ((2.0, 1.0), (2.5, 0.5)):
    compare(f"SimPO, beta {_beta}, gamma {_gamma}", "direct_alignment.simpo_loss", CPO + ", loss_type='simpo'",
            ours_paired(da.simpo_loss, **ONE, average=True, beta=_beta, gamma=_gamma),
            trl_concatenated(CPOTrainer, loss_type="simpo", beta=_beta, simpo_gamma=_gamma, cpo_alpha=0.0))


def _odds_part(trainer, model, batch_of):
    chosen, rejected = trainer.concatenated_forward(model, batch_of)[:2]
    return -trainer.odds_ratio_loss(chosen, rejected)[0].mean()


def _our_odds(batch, z):
    """ORPO's odds term alone: the loss less the likelihood, which `orpo_loss` reports."""
    averages = sequence_logps(Table((batch.ids, z)), batch.ids, batch.attention, batch.mask, average=True).chunk(2)
    return da.orpo_loss(*averages)[0] + averages[0].mean()


compare("ORPO, odds term", "direct_alignment.orpo_loss", "ORPOTrainer.odds_ratio_loss (in float32)", _our_odds,
        trl_concatenated(ORPOTrainer, beta=0.1, parts=_odds_part), tolerance=1e-4)
compare("ORPO with its likelihood", "direct_alignment.orpo_loss", "ORPOTrainer.get_batch_loss_metrics",
        ours_paired(da.orpo_loss, average=True, reference=False), trl_concatenated(ORPOTrainer, beta=0.1), item="G6",
        why="TRL's likelihood is a mean over all tokens of the batch, the prompt's too; ours a mean a row of the answer's alone")


def _kto_inputs(case, kinds):
    """Rated rows and, scored anew, every row's prompt with the answer of the row before it."""
    batch, other = lay_out(case, left=False), lay_out(type(case)(case.shape, case.dtype, case.seed + 50), left=False)
    rows = torch.arange(len(batch.ids))
    return batch, other, {"mixed": rows % 3 != 1, "desirable": rows >= 0, "undesirable": rows < 0}[kinds]


def _total(model, batch):
    return sequence_logps(model, batch.ids, batch.attention, batch.mask)


def _our_kto(batch, other, label, z, *, rolled=False, **settings):
    ratio = _total(Table((batch.ids, z)), batch) - _total(Table((batch.ids, batch.ref)), batch)
    away = _total(Table((other.ids, other.logits)), other) - _total(Table((other.ids, other.ref)), other)
    kl = ratio.detach().roll(1) if rolled else away
    return da.kto_loss(ratio, label.float(), kl, **settings)[0]


def _trl_kto(batch, other, label, z, *, beta=0.1, w_desirable=1.0, w_undesirable=1.0):
    trainer = bare(KTOTrainer, calculate_KL=True, use_liger_kernel=False, precompute_ref_logps=False, loss_type="kto", beta=beta,
                   desirable_weight=w_desirable, undesirable_weight=w_undesirable,
                   ref_model=Table((batch.ids, batch.ref), (other.ids, other.ref)))
    inputs = {"input_ids": batch.ids, "attention_mask": batch.attention, "completion_mask": batch.mask, "label": label}
    inputs |= {"KL_input_ids": other.ids, "KL_attention_mask": other.attention, "KL_completion_mask": other.mask}
    return trainer._compute_loss(Table((batch.ids, z), (other.ids, other.logits)), inputs, False)


def kto(name, kinds, *, rolled=False, why="", item="", **settings):
    """Declare a KTO row: the same mismatched pairs on both sides, unless `rolled`."""

    @row(name, "direct_alignment.kto_loss", "KTOTrainer._compute_loss, loss_type='kto'", why=why, item=item)
    def fn(case):
        batch, other, label = _kto_inputs(case, kinds)
        return (pull(lambda z: _our_kto(batch, other, label, z, rolled=rolled, **settings), batch.logits),
                pull(lambda z: _trl_kto(batch, other, label, z, **settings), batch.logits))


kto("KTO, both kinds", "mixed")
kto("KTO, weights 1 and 1.5, beta 0.3", "mixed", beta=0.3, w_undesirable=1.5)
kto("KTO, desirable rows alone", "desirable")
kto("KTO, undesirable rows alone", "undesirable")
kto("KTO, reference point from rolled ratios", "mixed", rolled=True, item="G7, K54",
    why="rolling finished log-ratios, as the book's code does, leaves their mean: it is no mismatched pair; TRL scores them anew")


def _reward(case, parts):
    g = case.generator()
    pairs = 3 * case.shape[0]
    scores = 3 * torch.randn(2 * pairs, generator=g, dtype=case.dtype)
    margin = torch.rand(pairs, generator=g, dtype=case.dtype)

    def trl(s):
        trainer = bare(RewardTrainer, args={"center_rewards_coefficient": 0.01 if parts.get("center") else None})
        inputs = {"margin": margin} if parts.get("margin") else {}
        return trainer.compute_loss(lambda **_: SequenceClassifierOutput(logits=s[:, None]), inputs)

    named = {"margin": margin if parts.get("margin") else None, "center": 0.01 if parts.get("center") else 0.0}
    return pull(lambda s: pairwise_loss(*s.chunk(2), **named)[0], scores), pull(trl, scores)


for _name, _parts in (("plain", {}), ("margin", {"margin": True}), ("centred", {"center": True}),
                      ("margin and centred", {"margin": True, "center": True})):
    row(f"reward model, {_name}", "reward_model.pairwise_loss", "RewardTrainer.compute_loss")(
        lambda case, parts=_parts: _reward(case, parts))


@row("reward model, accuracy with ties", "reward_model.pairwise_loss", "RewardTrainer.compute_loss, metric accuracy")
def accuracy(case):
    scores = torch.randint(0, 3, (40 * case.shape[0],), generator=case.generator()).to(case.dtype)  # many ties
    trainer = bare(RewardTrainer, args={"center_rewards_coefficient": None})
    trainer.compute_loss(lambda **_: SimpleNamespace(logits=scores[:, None]), {})
    theirs = torch.tensor(trainer._metrics["eval"]["accuracy"][0], dtype=torch.float64)
    return (pairwise_loss(*scores.chunk(2))[1]["accuracy"], []), (theirs, [])
