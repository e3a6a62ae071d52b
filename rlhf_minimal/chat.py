"""Chat: from text to ids and masks. Prompt and completion are tokenized apart and joined (A6).

Every conversation is rendered by the tokenizer's own chat template (or a plain one), with markers in place of the
contents. Template text may hold special tokens; contents may not, except the calculator's tags in an answer. So no
user can close their own turn by writing the end token, and one BOS at most comes out (A8).
"""

import re

from jinja2 import TemplateError

TURN = re.compile(r"\n\n(Assistant|User|Human):[ \n]?")
TOOLS = ("<call>", "</call>", "<out>", "</out>")
VILLAGE_TEMPLATE = (  # one token a role, one to end a turn, no BOS, no system
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('user and assistant only') }}{% endif %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
PLAIN = (  # for tokenizers without a template, such as GPT-2's
    "{% for m in messages %}{{ 'Assistant:' + m['content'] + eos_token if m['role'] == 'assistant' else "
    "m['role'].capitalize() + ': ' + m['content'] }}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def to_messages(prompt):
    """A prompt as [{"role", "content"}, ...]. A str is a user's turn, with earlier turns of a conversation in it as
    "first question\\n\\nAssistant: answer\\n\\nUser: next question" ("Human:" too); a list of messages passes through.
    """
    if isinstance(prompt, str):
        parts = TURN.split("\n\nUser: " + prompt if not TURN.match(prompt) else prompt)
        turns = [(role, text) for role, text in zip(parts[1::2], parts[2::2], strict=True) if text.strip()]
        return [{"role": "assistant" if role == "Assistant" else "user", "content": text} for role, text in turns]
    good = isinstance(prompt, (list, tuple)) and all(
        isinstance(m, dict) and m.get("role") in ("system", "user", "assistant") and isinstance(m.get("content"), str)
        for m in prompt)
    if not good:
        raise ValueError(f"prompt is {str(prompt)[:80]!r}; give a str or a list of {{'role': ..., 'content': str}}")
    return [dict(m) for m in prompt]


def _encode(tokenizer, text, *, special):
    """Ids of a text, without BOS; where not `special`, "<|end|>" is seven letters like any other."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=not special).input_ids


def _answer(tokenizer, text):
    """(ids, mask) of an assistant's text: the calculator's tags are real tokens, its outputs have mask 0 (K58)."""
    if text and tokenizer.chat_template is None and not text[0].isspace():
        text = " " + text  # the plain template ends in "Assistant:"
    tags = {t: i for t, i in tokenizer.get_added_vocab().items() if t in TOOLS}
    ids, mask, counts = [], [], 1
    for piece in re.split("(" + "|".join(TOOLS) + ")", text) if tags else [text]:
        new = [tags[piece]] if piece in tags else _encode(tokenizer, piece, special=False)
        counts = 0 if piece == "<out>" and piece in tags else counts
        ids, mask = ids + new, mask + [counts] * len(new)
        counts = 1 if piece == "</out>" else counts
    return ids, mask


def _turns(tokenizer, messages, generate):
    """[(role or "template", ids, mask), ...] of a conversation, in order; contents are put in after rendering."""
    marks = [f"\ue000{i}\ue001" for i in range(len(messages))]
    masked = [{**m, "content": mark} for m, mark in zip(messages, marks, strict=True)]
    try:
        text = tokenizer.apply_chat_template(masked, tokenize=False, add_generation_prompt=generate,
                                             chat_template=None if tokenizer.chat_template else PLAIN)
    except TemplateError as error:
        roles = ", ".join(m["role"] for m in messages)
        raise ValueError(f"the chat template refuses turns {roles}: {error}; give turns it knows") from error
    out = []
    if not tokenizer.chat_template and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]:
        out.append(("template", [tokenizer.bos_token_id], [0]))  # a template brings its own BOS (A8)
    for i, piece in enumerate(re.split("\ue000(\\d+)\ue001", text)):
        message = messages[int(piece)] if i % 2 else {"role": "template", "content": piece}
        role, content = message["role"], message["content"]
        if role == "assistant":
            out.append((role, *_answer(tokenizer, content)))
        else:
            ids = _encode(tokenizer, content, special=role == "template")
            out.append((role, ids, [0] * len(ids)))
    return out


def encode_prompt(tokenizer, prompt):
    """Ids of a prompt (str or messages) up to where the assistant's answer starts."""
    messages = to_messages(prompt)
    if not messages or messages[-1]["role"] != "user":
        raise ValueError(f"the prompt {str(prompt)[:60]!r} does not end in a user's turn with text to answer")
    return sum((ids for _, ids, _ in _turns(tokenizer, messages, True)), [])


def encode_completion(tokenizer, completion, *, eos=True):
    """(ids, mask), two lists: the completion tokenized by itself, one EOS at its end, both in the loss (A5, G12).

    Mask 0 on tool outputs, <out> to </out> inclusive (K58). An EOS already written at the end is not doubled.
    """
    if not isinstance(completion, str):
        raise ValueError(f"completion is {type(completion).__name__}; give a str")
    ids, mask = _answer(tokenizer, completion.removesuffix(tokenizer.eos_token))
    return (ids + [tokenizer.eos_token_id], mask + [1]) if eos else (ids, mask)


def encode_pair(tokenizer, prompt, completion, max_len=None):
    """(ids, mask) of prompt + completion + EOS; the mask is 1 on what is to be learned.

    Beyond `max_len` the prompt loses its *left* end, but for its last token; a completion that is longer still loses
    its right end, EOS with it, as it did not end there (A7).
    """
    before = encode_prompt(tokenizer, prompt)
    ids, mask = encode_completion(tokenizer, completion)
    if max_len is not None:
        if max_len < 2:
            raise ValueError(f"max_len is {max_len}; a pair needs 2 tokens or more")
        ids, mask = ids[:max_len - 1], mask[:max_len - 1]
        before = before[-(max_len - len(ids)):]
    return before + ids, [0] * len(before) + mask


def encode_messages(tokenizer, messages, *, turns="last"):
    """(ids, mask) of a conversation that ends with the assistant; mask 1 on the last answer or on all, EOS included."""
    messages = to_messages(messages)
    if turns not in ("last", "all") or not messages or messages[-1]["role"] != "assistant":
        raise ValueError(f"turns is {turns!r} ('last' or 'all'), {len(messages)} messages; the last is the assistant's")
    ids, mask, last = [], [], ""
    for role, new, on in _turns(tokenizer, messages[:-1], True):
        if role == "template" and last == "assistant" and new[:1] == [tokenizer.eos_token_id]:
            on = [1] + on[1:]  # the end of an earlier answer is learned too (A5)
        ids, mask, last = ids + new, mask + on, role
    new, on = encode_completion(tokenizer, messages[-1]["content"])
    return ids + new, (mask if turns == "all" else [0] * len(mask)) + on


def decode(tokenizer, ids):
    """Text of a completion, without special tokens except the calculator's tags (a reward may read those)."""
    skip = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special and t.content not in TOOLS}
    skip |= {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}  # ByT5 marks none
    text = tokenizer.decode([i for i in ids if i not in skip], clean_up_tokenization_spaces=False)
    return text.removeprefix(" ") if tokenizer.chat_template is None else text
