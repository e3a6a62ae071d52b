"""Every family of causal language models in transformers, tried: docs/models.md.

    python -m tools.families            # try them all, and write the page (a minute on one core)
    python -m tools.families llama opt  # try these, and print their rows

A family is a small model with random weights, made from its configuration. Four laws are tried. Forward: the log-probabilities
of a row in a padded batch are those of the row alone, from a plain call of transformers. Sampling: a sampled token's
log-probability is the one that scoring gives it, and a greedy row in a batch is the row alone. Training: without dropout two
forwards in training mode are equal, the first DPO loss is log 2, and a step of SFT and of DPO changes the weights. Saved: the
trained model, loaded by transformers, scores the same. A model that cannot keep a law must be refused, with a message that says
why; an error of another kind is a failure.
"""

import logging
import math
import sys
import tempfile
import warnings
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/models.md"
VOCAB, TOLERANCE = 64, 1e-4
COLUMNS = ("forward", "sampling", "training", "saved and loaded")

# sizes of a small model, by the names that configurations use for them
SIZES = dict(
    vocab_size=VOCAB, hidden_size=32, d_model=32, n_embd=32, emb_dim=32, dim=32, intermediate_size=48, d_ff=48, ffn_dim=48,
    n_inner=48, ffn_hidden_size=48, num_hidden_layers=2, n_layer=2, n_layers=2, num_layers=2, decoder_layers=2, encoder_layers=2,
    num_attention_heads=4, n_head=4, n_heads=4, num_heads=4, attention_heads=4, decoder_attention_heads=4,
    encoder_attention_heads=4, num_key_value_heads=2, head_dim=8, decoder_ffn_dim=48, encoder_ffn_dim=48,
    max_position_embeddings=128,
    n_positions=128,
    sliding_window=16, moe_intermediate_size=16, shared_expert_intermediate_size=16, num_experts=4, num_local_experts=4,
    n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1, q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=8,
    qk_rope_head_dim=8, v_head_dim=8, first_k_dense_replace=1, word_embed_proj_dim=32, rotary_dim=8, embedding_size=32,
    mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8, mamba_d_conv=4, mamba_expand=2, ssm_state_size=8, state_size=8,
    mamba_num_heads=4, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8,
    attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1, lru_width=32, index_topk=64,
    index_n_heads=2, index_head_dim=8, d_kv=8, vocab_size_per_layer_input=VOCAB, hidden_size_per_layer_input=8,
    num_kv_shared_layers=0, pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.2, dropout=0.1, hidden_dropout=0.1,
    attention_dropout=0.1, hidden_dropout_prob=0.1, activation_dropout=0.1, layerdrop=0.1,
)
MIXED = ["linear_attention", "full_attention"]
MAMBA = dict(mamba_d_ssm=64, mamba_chunk_size=8)
FULL = dict(num_key_value_heads=4)
# what other parts they have is large, whatever the sizes above
LARGE = ("gemma3", "git", "got_ocr2", "moss_transcribe_diarize", "phi4_multimodal", "blt", "roc_bert")
ODD = {  # what a family needs besides
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "minicpm3",
                     "youtu", "longcat_flash", "dots3_note_text"), FULL),
    **dict.fromkeys(("bailing_hybrid", "granitemoehybrid", "kimi_linear", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next",
                     "qwen4_exp_text", "olmo_hybrid", "qwen3_5", "qwen3_5_moe", "qwen4_exp"),
                    dict(layer_types=MIXED)),
    **dict.fromkeys(("lfm2", "lfm2_moe", "lfm3"), dict(layer_types=["conv", "full_attention"])),
    **dict.fromkeys(("bailing_hybrid", "kimi_linear"), dict(layer_types=MIXED, num_key_value_heads=4)),
    "bamba": dict(attn_layer_indices=[1]) | MAMBA, "falcon_h1": MAMBA,
    "granitemoehybrid": dict(layer_types=MIXED, shared_intermediate_size=32) | MAMBA,
    "diffllama": dict(attention_dropout=0.0), "mamba2": dict(num_heads=4, head_dim=16, expand=2, n_groups=1, chunk_size=8),
    "recurrent_gemma": dict(num_hidden_layers=3), "zaya": dict(num_experts_per_tok=1),
    "dots1": dict(n_shared_experts=1), "gpt_neo": dict(attention_types=[[["global", "local"], 1]], window_size=16),
    "nemotron_h": dict(layers_block_type=["linear_attention", "moe", "full_attention", "mlp"], n_groups=1, mamba_head_dim=16,
                       moe_shared_expert_intermediate_size=16, chunk_size=8),
    "zamba": dict(layers_block_type=["linear_attention", "hybrid"], attention_head_dim=8, num_key_value_heads=4),
    "zamba2": dict(layers_block_type=["linear_attention", "hybrid"], n_mamba_heads=4, mamba_ngroups=1),
    "xlstm": dict(num_heads=4), "longcat_flash": FULL | dict(num_layers=1),
}


def tiny(family: str, seed: int = 0, **more):
    """A small model of a family, with random weights, in eval mode."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    kind = CONFIG_MAPPING[family]
    config = kind()
    text = config.get_text_config(decoder=True)
    key = next((k for k in ("text_config", "decoder", "decoder_config") if getattr(config, k, None) is text), None)
    inner = text if key else config
    given = inner.to_dict()
    names = set(given) | set(inner.attribute_map)
    sizes = {k: v for k, v in SIZES.items() if k in names and inner.attribute_map.get(k) not in SIZES}
    if not given.get("sliding_window"):
        sizes.pop("sliding_window", None)
    sizes |= ODD.get(family, {}) | more
    sizes = {k: v for k, v in sizes.items() if v is not None}
    torch.manual_seed(seed)
    config = kind(**{key: type(inner)(**sizes)}) if key else kind(**sizes)
    return AutoModelForCausalLM.from_config(config).eval()


ROWS = [[3, 9, 27, 14, 42, 50, 23], [5, 25, 58], [i * 11 % 59 + 3 for i in range(23)]]  # the last is longer than any window
PROMPTS = [row[:n] for row, n in zip(ROWS, (5, 2, 19), strict=True)]


class Broken(Exception):
    """A law that a model does not keep, though it was not refused."""


def alone(model, row):
    """Log-probabilities of a row's tokens by a plain call of transformers, (L-1,)."""
    ids = torch.tensor([row])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].float()
    return logits[:-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]


def near(a, b, what, tolerance=TOLERANCE):
    """Raise Broken unless two tensors agree."""
    off = float((a - b).abs().max())
    if not off <= tolerance:
        raise Broken(f"{what}: {off:.2g} off")


def forward_law(model):
    """A row in a batch, padded on either side, is the row alone."""
    from rlhf_minimal.logprobs import token_logps
    from rlhf_minimal.tensors import pad_left, pad_right

    for pad in (pad_left, pad_right):
        ids, attention = pad(ROWS)
        with torch.no_grad():
            got = token_logps(model, ids, attention)
        for k, row in enumerate(ROWS):
            start = ids.shape[1] - len(row) if pad is pad_left else 0
            near(got[k, start:start + len(row) - 1], alone(model, row), "a row in a batch")


def sampling_law(model):
    """A sampled token's log-probability is that of scoring; a greedy row in a batch is the row alone."""
    from rlhf_minimal.rollout import completion_logps
    from rlhf_minimal.sampling import sample

    drawn = sample(model, PROMPTS, n=2, max_new_tokens=8, eos_id=[2, 7], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        near(drawn.logp_old, completion_logps(model, drawn), "sampled and scored")
    greedy = sample(model, PROMPTS[:2], max_new_tokens=5, eos_id=[2], temperature=0)
    single = sample(model, PROMPTS[1:2], max_new_tokens=5, eos_id=[2], temperature=0)
    n = int(single.mask.sum())
    if greedy.completion_ids[1, :n].tolist() != single.completion_ids[0].tolist():
        raise Broken("a greedy row in a batch is another one alone")


def training_law(model):
    """Two forwards in training mode are equal, the first DPO loss is log 2, a step of SFT and of DPO changes the weights."""
    from rlhf_minimal import direct_alignment, models, sft
    from rlhf_minimal.tensors import pad_right

    policy, reference = models.copy_of(model).train(), models.frozen_copy(model)
    one = torch.tensor([ROWS[0]])
    a, b = (policy(input_ids=one, **models.zero_types(policy, one)).logits for _ in range(2))
    near(a, b, "two forwards in training mode", 1e-6)
    ids, attention = pad_right([ROWS[0], ROWS[0][:4] + ROWS[1]])
    mask = attention * (torch.arange(ids.shape[1]) > 3)
    batch = {"ids": ids, "attention": attention, "mask": mask}
    optimizer = torch.optim.SGD(policy.parameters(), lr=1e-2)
    with torch.no_grad():
        chosen, rejected = direct_alignment.pair_logps(reference, batch)
    stats = direct_alignment.step(policy, optimizer, batch | {"ref_chosen": chosen, "ref_rejected": rejected})
    near(torch.as_tensor(stats["loss"]), torch.tensor(math.log(2)), "the first DPO loss", 1e-5)
    stats = sft.step(policy, optimizer, batch)
    if not math.isfinite(float(stats["loss"])) or all(
            torch.equal(x, y) for x, y in zip(policy.parameters(), reference.parameters(), strict=True)):
        raise Broken("a step changes nothing")
    return policy.eval()


def saved_law(model):
    """A model that was saved, loaded by transformers, scores the same."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = type(model).from_pretrained(folder).eval()
    near(alone(loaded, ROWS[0]), alone(model, ROWS[0]), "saved and loaded")


def verdict(family):
    """The row of a family: {column: "exact", "refused" or "fails"}, and a note."""
    row = dict.fromkeys(COLUMNS, "")
    try:
        if family in LARGE:
            raise ValueError
        model = tiny(family)
    except Exception:
        return row | {"note": "not tried: no small model of it is made from sizes alone"}
    row["note"] = type(model).__name__
    for column, law in zip(COLUMNS, (forward_law, sampling_law, training_law, saved_law), strict=True):
        try:
            model = law(model) or model
            row[column] = "exact"
        except ValueError as error:
            row |= {column: "refused", "note": f"{row['note']}; refused: {' '.join(str(error).split('; give')[0].split())}"}
            break
        except Exception as error:
            row |= {column: "fails", "note": f"{row['note']}; {type(error).__name__}: {' '.join(str(error).split())[:120]}"}
            break
    return row


# ---- the page ----

def names():
    """Every family that transformers takes for a causal language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def page(rows):
    """docs/models.md of {family: row}."""
    done = [r for r in rows.values() if r["saved and loaded"] == "exact"]
    refused = [r for r in rows.values() if "refused" in r.values()]
    lines = [
        "# Models", "", "Written by `python -m tools.families`; do not edit.", "",
        "Which causal language models of transformers can be sampled, trained and saved here. Each family was tried as a small "
        "model with random weights, made from its configuration.", "",
        "- **forward**: the log-probabilities of a row in a padded batch are those of the row alone, by a plain call of "
        "transformers.",
        "- **sampling**: a sampled token's log-probability is the one that scoring gives it; a greedy row in a batch is the row "
        "alone.",
        "- **training**: without dropout two forwards in training mode are equal, the first DPO loss is log 2, and a step of SFT "
        "and of DPO changes the weights.",
        "- **saved and loaded**: the trained model, loaded by transformers, scores the same.", "",
        f"`exact` means within {TOLERANCE:g} nats per token. {len(done)} of {len(rows)} families keep all four laws, "
        f"{len(refused)} are refused with a reason, {len(rows) - len(done) - len(refused)} were not tried. A family whose cache "
        "is recurrent, sparse or of an unknown kind is sampled by reading every row anew for each token: exact, and slow.", "",
        "| family | " + " | ".join(COLUMNS) + " | note |", "|---" * (len(COLUMNS) + 2) + "|",
    ]
    lines += [f"| {name} | " + " | ".join(row[c] for c in COLUMNS) + f" | {row['note']} |" for name, row in sorted(rows.items())]
    return "\n".join(lines) + "\n"


def stored():
    """{family: row} as the page says."""
    lines = PAGE.read_text(encoding="utf-8").split("\n")
    first = lines.index("|---" * (len(COLUMNS) + 2) + "|") + 1
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines[first:] if line]
    return {row[0]: dict(zip((*COLUMNS, "note"), row[1:], strict=True)) for row in cells}


def main(asked):
    """Try the families and write the page, or print the rows of those asked for."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if unknown := set(asked) - set(names()):
        raise SystemExit(f"no family {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    rows = {}
    for name in asked or names():
        rows[name] = verdict(name)
        if asked or "fails" in rows[name].values():
            print(name, *(rows[name][c] or "-" for c in COLUMNS), rows[name]["note"], sep=" | ", flush=True)
    if not asked:
        PAGE.write_text(page(rows), encoding="utf-8")
        print(f"{PAGE.relative_to(ROOT)}: {len(rows)} families")


if __name__ == "__main__":
    main(sys.argv[1:])
