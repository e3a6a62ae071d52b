"""Chat: from text to ids and masks.

Prompt and completion are tokenized apart and then joined, so that no token stretches over the border between them.

Every conversation is rendered by the tokenizer's own chat template (or a plain one), with markers in place of the
contents. The template's text may hold special tokens; contents may not, except for the calculator's tags in an answer. So
no user can close their own turn by writing the end token. At most one begin token (BOS) comes out.
"""

import re

from jinja2 import TemplateError

from .models import Tokenizer

Messages = list[dict[str, str]]  # [{"role": "user", "content": "..."}, ...]

TURN = re.compile(r"\n\n(Assistant|User|Human):[ \n]?")
TOOLS = ("<call>", "</call>", "<out>", "</out>")
VILLAGE_TEMPLATE = (  # one token per role, one to end a turn, no BOS, no system
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('user and assistant only') }}{% endif %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
PLAIN = (  # for tokenizers without a template, such as GPT-2's
    "{% for m in messages %}{{ 'Assistant:' + m['content'] + eos_token if m['role'] == 'assistant' else "
    "m['role'].capitalize() + ': ' + m['content'] }}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def to_messages(prompt: str | Messages) -> Messages:
    """A prompt as a list of messages. A list passes through; a str is a user's turn.

    Earlier turns may stand in the same str: "first question\\n\\nAssistant: answer\\n\\nUser: next question" ("Human:" too).
    Raises ValueError for anything else.
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


def encode_text(tokenizer: Tokenizer, text: str, *, special: bool) -> list[int]:
    """Ids of a text, without BOS. If not `special`, "<|end|>" is seven characters like any others."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=not special).input_ids


def encode_answer(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[int]]:
    """Ids and mask of an assistant's text. The calculator's tags are real tokens; what it puts out has mask 0.

    The model did not write that output, and must not learn to make it up.
    """
    if text and tokenizer.chat_template is None and not text[0].isspace():
        text = " " + text  # the plain template ends in "Assistant:"
    tags = {t: i for t, i in tokenizer.get_added_vocab().items() if t in TOOLS}
    ids, mask, counts = [], [], 1
    for piece in re.split("(" + "|".join(TOOLS) + ")", text) if tags else [text]:
        new = [tags[piece]] if piece in tags else encode_text(tokenizer, piece, special=False)
        counts = 0 if piece == "<out>" and piece in tags else counts
        ids, mask = ids + new, mask + [counts] * len(new)
        counts = 1 if piece == "</out>" else counts
    return ids, mask


def encode_turns(tokenizer: Tokenizer, messages: Messages, generate: bool) -> list[tuple[str, list[int], list[int]]]:
    """A conversation in pieces, in order: (role or "template", ids, mask). Contents are put in after rendering.

    generate: whether it ends where the assistant's next answer starts.
    """
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
        out.append(("template", [tokenizer.bos_token_id], [0]))  # a template brings its own BOS
    for i, piece in enumerate(re.split("\ue000(\\d+)\ue001", text)):
        message = messages[int(piece)] if i % 2 else {"role": "template", "content": piece}
        role, content = message["role"], message["content"]
        if role == "assistant":
            out.append((role, *encode_answer(tokenizer, content)))
        else:
            ids = encode_text(tokenizer, content, special=role == "template")
            out.append((role, ids, [0] * len(ids)))
    return out


def encode_prompt(tokenizer: Tokenizer, prompt: str | Messages) -> list[int]:
    """Ids of a prompt, up to where the assistant's answer starts. Raises ValueError if it does not end in a user's turn."""
    messages = to_messages(prompt)
    if not messages or messages[-1]["role"] != "user":
        raise ValueError(f"the prompt {str(prompt)[:60]!r} does not end in a user's turn with text to answer")
    return sum((ids for _, ids, _ in encode_turns(tokenizer, messages, True)), [])


def encode_completion(tokenizer: Tokenizer, completion: str, *, eos: bool = True) -> tuple[list[int], list[int]]:
    """Ids and mask of a completion, tokenized by itself, with one end token (EOS) that is learned too.

    An EOS already written at the end is not doubled. The mask is 0 on tool outputs, from <out> to </out>. Raises ValueError
    for anything but a str.
    """
    if not isinstance(completion, str):
        raise ValueError(f"completion is {type(completion).__name__}; give a str")
    ids, mask = encode_answer(tokenizer, completion.removesuffix(tokenizer.eos_token))
    return (ids + [tokenizer.eos_token_id], mask + [1]) if eos else (ids, mask)


def encode_pair(
    tokenizer: Tokenizer, prompt: str | Messages, completion: str, max_len: int | None = None,
) -> tuple[list[int], list[int]]:
    """Ids and mask of prompt + completion + EOS, as one row; the mask is 1 on what is to be learned.

    Beyond `max_len` tokens the prompt loses its *left* end, all but its last token. A completion that is still too long
    loses its right end, and EOS with it: it did not end there. Raises ValueError for a max_len below 2.
    """
    before = encode_prompt(tokenizer, prompt)
    ids, mask = encode_completion(tokenizer, completion)
    if max_len is not None:
        if max_len < 2:
            raise ValueError(f"max_len is {max_len}; a pair needs 2 tokens or more")
        ids, mask = ids[:max_len - 1], mask[:max_len - 1]
        before = before[-(max_len - len(ids)):]
    return before + ids, [0] * len(before) + mask


def encode_messages(tokenizer: Tokenizer, messages: Messages, *, turns: str = "last") -> tuple[list[int], list[int]]:
    """Ids and mask of a conversation that ends with the assistant's answer.

    The mask is 1 on the last answer or, with turns="all", on every answer, end tokens included. Raises ValueError for other
    `turns` and for a conversation that ends otherwise.
    """
    messages = to_messages(messages)
    if turns not in ("last", "all") or not messages or messages[-1]["role"] != "assistant":
        raise ValueError(f"turns is {turns!r} ('last' or 'all'), {len(messages)} messages; the last is the assistant's")
    ids, mask, last = [], [], ""
    for role, new_ids, new_mask in encode_turns(tokenizer, messages[:-1], True):
        if role == "template" and last == "assistant" and new_ids[:1] == [tokenizer.eos_token_id]:
            new_mask = [1] + new_mask[1:]  # the end of an earlier answer is learned too
        ids, mask, last = ids + new_ids, mask + new_mask, role
    new_ids, new_mask = encode_completion(tokenizer, messages[-1]["content"])
    return ids + new_ids, (mask if turns == "all" else [0] * len(mask)) + new_mask


def decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Text of a completion, without special tokens, except for the calculator's tags (a reward may read those)."""
    skip = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special and t.content not in TOOLS}
    skip |= {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}  # ByT5 marks none
    text = tokenizer.decode([i for i in ids if i not in skip], clean_up_tokenization_spaces=False)
    return text.removeprefix(" ") if tokenizer.chat_template is None else text
