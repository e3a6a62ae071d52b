"""The Pool: stored samples of the village's models with log-probabilities, features, gold and last-token states.

`pool.json` says what the numbers mean, `pool.safetensors` holds them in half precision: reading and writing happen here
and nowhere else. Sweeps over data size, noise, seeds and n run on it without sampling.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from .. import SHIPPED, village
from ..chat import decode
from ..files import write_together

STORED = {"ids": torch.int16, "lengths": torch.int16, "logp": torch.float16, "gold": torch.float16, "ended": torch.int8,
          "features": torch.float16, "state": torch.float16, "prompt": torch.int32, "source": torch.int8}
MADE_OF = ("prompts", "families", "feature_names", "source_names")


@dataclass(frozen=True, eq=False)
class Pool:
    """N samples: whole numbers as int64, the rest as float32. Off a row's length, ids and logp are 0.

    ids, logp (N,T); lengths, gold, ended, prompt (index into prompts), source (index into source_names) (N,);
    features (N,F); state (N,H): the last-token hidden state of `meta["model"]` on prompt + completion.
    """
    ids: torch.Tensor
    lengths: torch.Tensor
    logp: torch.Tensor
    gold: torch.Tensor
    ended: torch.Tensor
    features: torch.Tensor
    state: torch.Tensor
    prompt: torch.Tensor
    source: torch.Tensor
    prompts: tuple[str, ...]
    families: tuple[str, ...]       # of each prompt
    feature_names: tuple[str, ...]
    source_names: tuple[str, ...]
    meta: dict = field(default_factory=dict)

    def __post_init__(self):
        n, (_, width) = len(self.ids), self.ids.shape
        wide = {"ids": width, "logp": width, "state": self.state.shape[-1], "features": len(self.feature_names)}
        sizes = {k: (n, wide[k]) if k in wide else (n,) for k in STORED}
        bad = [f"{k} {tuple(x.shape)} instead of {v}" for k, v in sizes.items() if (x := getattr(self, k)).shape != v]
        if len(self.prompts) != len(self.families):
            bad.append(f"{len(self.families)} families for {len(self.prompts)} prompts")
        if bad:
            raise ValueError(f"a pool of {n} rows does not fit together: {', '.join(bad)}")
        limits = {"prompt": len(self.prompts) - 1, "source": len(self.source_names) - 1, "lengths": width}
        for name, high in limits.items():
            x = getattr(self, name)
            if n and not 0 <= x.min() <= x.max() <= high:
                raise ValueError(f"{name} runs from {int(x.min())} to {int(x.max())}; expected 0 to {high}")

    def __len__(self):
        return len(self.ids)

    @property
    def mask(self):
        """(N,T) float32: 1 on the sampled tokens, EOS included."""
        return (torch.arange(self.ids.shape[1]) < self.lengths[:, None]).float()

    def texts(self, rows, tokenizer):
        """The completions of some rows (ints, or a tensor of them) as text."""
        return [decode(tokenizer, self.ids[int(i), : int(self.lengths[int(i)])].tolist()) for i in rows]

    def family(self, row):
        """The family of a row's prompt."""
        return self.families[int(self.prompt[int(row)])]

    def take(self, rows):
        """The Pool of some rows (a tensor of indices, or a bool mask); prompts and names keep their numbers."""
        return replace(self, **{name: getattr(self, name)[rows] for name in STORED})

    def select(self, *, source=None, family=None):
        """The Pool of the rows from one source, of one family, or both. Raises ValueError on an unknown name."""
        keep = torch.ones(len(self), dtype=torch.bool)
        asked = (("source", source, self.source_names, self.source), ("family", family, self.families, self.prompt))
        for what, name, names, index in asked:
            if name is not None:
                if name not in names:
                    known = ", ".join(sorted(set(names)))
                    raise ValueError(f"no {what} {name!r} in the pool; expected one of {known}")
                keep &= torch.tensor([x == name for x in names])[index]
        return self.take(keep)

    def groups(self):
        """{prompt index: (K,) rows of this Pool}, in the order of the prompts."""
        order = torch.argsort(self.prompt, stable=True)
        found, counts = torch.unique_consecutive(self.prompt[order], return_counts=True)
        return dict(zip(found.tolist(), order.split(counts.tolist()), strict=True))

    def utilities(self, annotator, date=0):
        """(N,) float32: what each sample is worth to an annotator, from the stored features."""
        rows = self.features.tolist()
        return torch.tensor([annotator.utility_of(self.family(i), dict(zip(self.feature_names, row, strict=True)), date)
                             for i, row in enumerate(rows)])


def pool(path=None):
    """The stored Pool, from `path` or the repository. Raises OSError where there is none."""
    from safetensors.torch import load_file

    folder = Path(path) if path else SHIPPED / "pool"
    if not (folder / "pool.json").exists() or not (folder / "pool.safetensors").exists():
        raise OSError(f"there is no pool in {'data/pool' if path is None else folder}; `make models` writes it")
    about = json.loads((folder / "pool.json").read_text(encoding="utf-8"))
    stored = load_file(folder / "pool.safetensors")
    missing = [x for x in STORED if x not in stored] + [x for x in MADE_OF if x not in about]
    if missing:
        raise ValueError(f"the pool in {folder} lacks {', '.join(missing)}; write it anew with `make models`")
    tensors = {k: stored[k].float() if STORED[k].is_floating_point else stored[k].long() for k in STORED}
    return Pool(**tensors, **{k: tuple(about.pop(k)) for k in MADE_OF}, meta=about)


def _checked(name, x):
    """A tensor in the type it is stored in; ValueError where that would not hold it."""
    limit = torch.finfo(STORED[name]).max if STORED[name].is_floating_point else torch.iinfo(STORED[name]).max
    if not torch.isfinite(x.float()).all() or (x.numel() and x.abs().max() > limit):
        raise ValueError(f"{name} {tuple(x.shape)} does not fit {STORED[name]} (not finite, or beyond {limit})")
    return x.to(STORED[name]).contiguous()


def write_pool(path, *, prompts, rows, states, seed, command, model="village-3m-sft"):
    """Write a Pool into a folder, both files at once, and return it as `pool` reads it.

    rows: dicts with prompt (index into prompts), source (a name), ids and logp (completion, EOS included), ended, text.
    states (N,H): last-token states of `model`. Features and gold are computed here, from prompt and text.
    """
    if not rows or len(rows) != len(states):
        raise ValueError(f"{len(rows)} rows, states {tuple(states.shape)}; expected at least 1 row, a state for each")
    uneven = [i for i, r in enumerate(rows) if len(r["ids"]) != len(r["logp"]) or not r["ids"]]
    if uneven:
        raise ValueError(f"rows {uneven[:8]} have no ids, or not one logp for each id")
    sources, width = tuple(dict.fromkeys(r["source"] for r in rows)), max(len(r["ids"]) for r in rows)
    feats = [village.features(prompts[r["prompt"]], r["text"]) for r in rows]
    families = tuple(village.parse(p).family for p in prompts)
    gold = [village.gold_of(families[r["prompt"]], f) for r, f in zip(rows, feats, strict=True)]

    def padded(key):
        return torch.tensor([list(r[key]) + [0] * (width - len(r[key])) for r in rows])

    tensors = {"ids": padded("ids"), "lengths": torch.tensor([len(r["ids"]) for r in rows]), "logp": padded("logp"),
               "gold": torch.tensor(gold), "state": torch.as_tensor(states),
               "ended": torch.tensor([int(r["ended"]) for r in rows]),
               "features": torch.tensor([[f[k] for k in village.FEATURES] for f in feats]),
               "prompt": torch.tensor([r["prompt"] for r in rows]),
               "source": torch.tensor([sources.index(r["source"]) for r in rows])}
    names = {"prompts": tuple(prompts), "families": families, "feature_names": village.FEATURES,
             "source_names": sources}
    Pool(**tensors, **names)    # raises on what does not fit together
    _write(Path(path), {k: _checked(k, x) for k, x in tensors.items()},
           names | {"model": model, "seed": seed, "command": command, "rows": len(rows)})
    return pool(path)


def _write(folder, tensors, about):
    """Both files or neither: an interrupted run leaves the old ones."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(about, ensure_ascii=False, indent=1) + "\n"
    write_together(folder, {"pool.safetensors": save(tensors), "pool.json": text})
