"""The table of algorithms: all that makes one differ from another in training. No torch in here, so that --help is quick."""

from dataclasses import dataclass, field, replace

from .settings import COMMON, LONG, SAMPLED, TINY, TURNS, Setting, Value


@dataclass(frozen=True)
class Algorithm:
    """One line of the table. A loss is given, by name, all that its signature asks for: tensors and settings alike."""

    name: str
    sentence: str            # what it is
    minimises: str           # its loss, for --help
    rows: str                # what it learns from: demonstrations, pairs, unpaired (thumbs) or prompts
    loss: str                # the function, as file.function of this package
    mean_over: str           # the terms of the loss's mean: tokens, pairs, rows, or "mode": what that setting says
    chapter: int             # of the book
    paper: str               # arXiv number, or author and year
    reference: bool = True   # compares with the frozen starting model
    average: bool = False    # takes log-probabilities per token, not their sums
    head: str = ""           # "score": the model becomes a reward model; "value": a critic learns beside it
    settings: dict[str, Setting] = field(default_factory=dict)  # those that not every algorithm has, or other defaults


def default(settings: dict[str, Setting], **values: Value) -> dict[str, Setting]:
    """The same settings with other defaults."""
    return settings | {name: replace(settings[name], default=x) for name, x in values.items()}


# ---- settings that some algorithms share, or that one of them has ----
CLIP = {"clip": Setting(0.2, float, "the ratio to the sampling policy counts from 1 - clip to 1 + clip", 0.0, 1.0)}
HIGH = {"clip_high": Setting(None, float, "upper clip, where it is another one (DAPO)", 0.0)}
EPOCHS = {"epochs": Setting(1, int, "passes over a batch of samples", 1),
          "minibatches": Setting(1, int, "optimizer steps per pass", 1)}
SCALE = {"scale": Setting(True, bool, "divide by the group's standard deviation; Dr. GRPO does not")}
MODE = {"mode": Setting("sequence_mean", str, "from tokens to the loss; Dr. GRPO: fixed, DAPO: token_mean",
                        choices=("sequence_mean", "token_mean", "sequence_sum", "fixed"))}
ALONE = {"group_size": replace(SAMPLED["group_size"], default=1, low=1),  # a baseline that needs no second sample
         "batch_size": replace(COMMON["batch_size"], default=32)}
BASELINE = {"baseline_decay": Setting(0.9, float, "how slowly that mean forgets earlier rewards", 0.0, 1.0)}
VALUE = {"value_clip": Setting(0.2, float, "a value may move this far from its old self", 0.0),
         "value_coef": Setting(0.5, float, "weight of the value's loss", 0.0),
         "gamma": Setting(1.0, float, "discount per token", 0.0, 1.0),
         "lam": Setting(0.95, float, "GAE's lambda", 0.0, 1.0)}
PAIR = {"lr": replace(COMMON["lr"], default=3e-5)}
BETA = {"beta": Setting(0.1, float, "weight of the log-ratio to the reference", TINY)}
SMOOTH = {"label_smoothing": Setting(0.0, float, "share of labels taken to be flipped", 0.0, 0.5)}
CENTER = {"center": Setting(0.0, float, "weight of the squared sum of both scores, which keeps them around 0", 0.0)}
ALPHA = {"alpha": Setting(1.0, float, "weight of the chosen answer's own log-likelihood", 0.0)}
MARGIN = {"beta": Setting(2.0, float, "weight of the log-probability per token", TINY),
          "gamma": Setting(1.0, float, "the margin, inside the sigmoid")}
ODDS = {"beta": Setting(0.1, float, "weight of the odds ratio", 0.0)}
THUMBS = {"batch_size": replace(COMMON["batch_size"], low=2),  # a row is compared with another row's answer
          "w_desirable": Setting(1.0, float, "weight of thumbs up", 0.0),
          "w_undesirable": Setting(1.0, float, "weight of thumbs down", 0.0)}

TABLE = (
    Algorithm("sft", "supervised fine-tuning: learn the completion of each demonstration",
              "-log pi(completion), mean over its tokens",
              "demonstrations", "sft.sft_loss", "tokens", 9, "2203.02155", reference=False, settings=TURNS),
    Algorithm("reward", "a reward model: the chosen answer is to score higher", "-log sigmoid(r(chosen) - r(rejected))",
              "pairs", "reward_model.pairwise_loss", "pairs", 7, "2203.02155", reference=False, head="score",
              settings=SMOOTH | CENTER),

    Algorithm("reinforce", "policy gradient with a running mean of earlier rewards as baseline",
              "-(r - beta KL - baseline) log pi(completion)",
              "prompts", "reinforce.reinforce_loss", "rows", 11, "Williams 1992", settings=ALONE | BASELINE),
    Algorithm("rloo", "REINFORCE whose baseline is the mean of a prompt's other samples",
              "-(r - beta KL - mean of the others) log pi(completion)", "prompts", "rloo.rloo_loss", "rows", 11, "2402.14740"),
    Algorithm("grpo", "clipped ratio, scores normalised within a prompt's samples, KL in the loss",
              "-min(rho A, clip(rho) A) + beta k3 per token; A = (r - mean) / std of the group",
              "prompts", "grpo.grpo_loss", "mode", 11, "2402.03300", settings=CLIP | EPOCHS | HIGH | SCALE | MODE),
    Algorithm("gspo", "GRPO with one ratio per sequence", "-min(s A, clip(s) A); s = exp(mean log-ratio of the completion)",
              "prompts", "grpo.gspo_loss", "rows", 11, "2507.18071", settings=default(CLIP, clip=3e-4) | EPOCHS | HIGH | SCALE),
    Algorithm("cispo", "clipped importance weights; no token loses its gradient",
              "-min(rho, 1 + clip_high) A log pi per token, no gradient through the weight",
              "prompts", "grpo.cispo_loss", "tokens", 11, "2506.13585", settings=default(HIGH, clip_high=0.2) | SCALE | EPOCHS),
    Algorithm("ppo", "clipped ratio, a value model judges each token, KL on every token's reward",
              "-min(rho A, clip(rho) A) per token, A by GAE on r - beta KL, and a value loss",
              "prompts", "ppo.minibatch_loss", "tokens", 11, "1707.06347", head="value",
              settings=ALONE | CLIP | default(EPOCHS, epochs=2) | VALUE),

    Algorithm("dpo", "preferences without a reward model, against the starting model", "-log sigmoid(beta h)",
              "pairs", "direct_alignment.dpo_loss", "pairs", 12, "2305.18290", settings=PAIR | BETA | SMOOTH),
    Algorithm("rdpo", "DPO, unbiased where a known share of labels is flipped",
              "(-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)) / (1 - 2e), e the share of flips",
              "pairs", "direct_alignment.rdpo_loss", "pairs", 12, "2403.00409",
              settings=PAIR | BETA | {"label_smoothing": replace(SMOOTH["label_smoothing"], high=0.499)}),
    Algorithm("ipo", "a squared loss towards a fixed margin, on means per token", "(h - 1 / (2 beta))^2, with h of means per token",
              "pairs", "direct_alignment.ipo_loss", "pairs", 12, "2310.12036", average=True, settings=PAIR | BETA | SMOOTH),
    Algorithm("hinge", "a hinge in place of DPO's logistic", "max(0, 1 - beta h)",
              "pairs", "direct_alignment.hinge_loss", "pairs", 12, "2309.06657", settings=PAIR | BETA | SMOOTH),
    Algorithm("apo-zero", "chosen up, rejected down, each by itself",
              "1 - sigmoid(beta log-ratio(chosen)) + sigmoid(beta log-ratio(rejected))",
              "pairs", "direct_alignment.apo_zero_loss", "pairs", 12, "2408.06266", settings=PAIR | BETA),
    Algorithm("apo-down", "both down, the rejected one more", "sigmoid(beta log-ratio(chosen)) + 1 - sigmoid(beta h)",
              "pairs", "direct_alignment.apo_down_loss", "pairs", 12, "2408.06266", settings=PAIR | BETA),
    Algorithm("dpo-nll", "DPO, and the chosen answer's likelihood", "-log sigmoid(beta h) - alpha log pi(chosen) per token",
              "pairs", "direct_alignment.dpo_nll_loss", "pairs", 12, "2404.19733", settings=PAIR | BETA | SMOOTH | ALPHA),
    Algorithm("simpo", "mean log-probabilities with a margin, no reference",
              "-log sigmoid(beta (log pi(chosen) - log pi(rejected)) per token - gamma)",
              "pairs", "direct_alignment.simpo_loss", "pairs", 12, "2405.14734", reference=False, average=True,
              settings=PAIR | MARGIN),
    Algorithm("orpo", "fine-tuning on the chosen answer and an odds ratio, no reference",
              "-log pi(chosen) per token - beta log sigmoid(log odds(chosen) - log odds(rejected))",
              "pairs", "direct_alignment.orpo_loss", "pairs", 12, "2403.07691", reference=False, average=True,
              settings=PAIR | ODDS),
    Algorithm("cpo", "DPO without a reference, and the chosen answer's likelihood",
              "-log sigmoid(beta (log pi(chosen) - log pi(rejected))) - alpha log pi(chosen)",
              "pairs", "direct_alignment.cpo_loss", "pairs", 12, "2401.08417", reference=False,
              settings=PAIR | BETA | SMOOTH | ALPHA),
    Algorithm("kto", "single answers, each with thumbs up or down",
              "w (1 - sigmoid(+-(beta log-ratio - z))), + for thumbs up, z the mean log-ratio of mismatched rows",
              "unpaired", "direct_alignment.kto_loss", "rows", 12, "2402.01306", settings=PAIR | BETA | THUMBS),
)
ALGORITHMS = {a.name: a for a in TABLE}


def settings_of(name: str) -> dict[str, Setting]:
    """All settings that an algorithm takes, with its own defaults. ValueError for a name that is not in the table."""
    if name not in ALGORITHMS:
        raise ValueError(f"algorithm is {name!r}; choose one of {', '.join(ALGORITHMS)}")
    a = ALGORITHMS[name]
    return COMMON | (SAMPLED if a.rows == "prompts" else LONG) | a.settings
