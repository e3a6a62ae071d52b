"""Chat: from text to ids and masks.

A chat template decides. The ids of a prompt are those of the tokenizer's `apply_chat_template`; the ids of an answer are
what the whole conversation adds to them, up to and including the token that ends it. Where the whole does not begin with
the prompt's ids, and for tokenizers without a template, prompt and answer are tokenized apart and then joined, so that no
token stretches over the border between them.

Contents never bring structure of their own. Where one holds the text of a special token, of an end token or of a token that
the template puts between turns, the conversation is rendered with markers in place of the contents, and these are spelled
out as ordinary text. So no user can close their own turn by writing the end token. In an answer the tags of thoughts and of
the calculator stay tokens.
"""

import re

from torch import nn

from .families import base_of, text_config, vocab_size
from .models import Tokenizer
from .templates import PLAIN, THOUGHTS, TOOLS, Messages, encode_text, facts, render, warn_once  # noqa: F401

TURN = re.compile(r"\n\n(Assistant|User|Human):[ \n]?")
VILLAGE_TEMPLATE = (  # one token per role, one to end a turn, no BOS, no system
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('user and assistant only') }}{% endif %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
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


def check_characters(text: str) -> None:
    """Raise ValueError on half a character, which no tokenizer takes."""
    if half := re.search("[\ud800-\udfff]", text):
        raise ValueError(f"place {half.start()} of the text {text[:40]!r} holds a lone surrogate, half of a character; "
                         "read the file again with its own encoding, or replace it")


def is_plain(tokenizer: Tokenizer, messages: Messages) -> bool:
    """Whether the template may see the contents: there is one, and none of them holds the text of a guarded token."""
    for m in messages:
        check_characters(m["content"])
    known = facts(tokenizer)
    guards = [known.answers if m["role"] == "assistant" else known.guarded for m in messages]
    return bool(tokenizer.chat_template) and not any(
        guard and guard.search(m["content"]) for guard, m in zip(guards, messages, strict=True))


# ---- pieces, tokenized apart ----

def encode_answer(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[int]]:
    """Ids and mask of an assistant's text. The tags of thoughts and of the calculator are real tokens.

    What the calculator puts out has mask 0: the model did not write it, and must not learn to make it up.
    """
    if text and tokenizer.chat_template is None and not text[0].isspace():
        text = " " + text  # the plain template ends in "Assistant:"
    tags = {t: i for t, i in tokenizer.get_added_vocab().items() if t in TOOLS + THOUGHTS}
    ids, mask, counts = [], [], 1
    for piece in re.split("(" + "|".join(TOOLS + THOUGHTS) + ")", text) if tags else [text]:
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
    text, out = render(tokenizer, masked, generate), []
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


def end_ids(tokenizer: Tokenizer, model: nn.Module | None = None) -> list[int]:
    """Every id that ends an answer: the tokenizer's end token, the template's, and those of the model's configurations.

    Many chat models have several. Gemma's tokenizer says <eos>, while a turn ends in <end_of_turn>. Any of them ends a
    sampled row. Raises ValueError where there is none.
    """
    found = list(facts(tokenizer).ends)
    model = None if model is None else base_of(model)
    size = None if model is None else vocab_size(model)
    for source in (getattr(model, "generation_config", None), getattr(model, "config", None), text_config(model)):
        ids = getattr(source, "eos_token_id", None)
        ids = ids if isinstance(ids, (list, tuple)) else [ids]
        found += [i for i in ids if type(i) is int and 0 <= i and (size is None or i < size)]
    if not found:
        raise ValueError("neither tokenizer nor model has an end token; set tokenizer.eos_token")
    return list(dict.fromkeys(found))


# ---- prompts ----

def encode_prompt(tokenizer: Tokenizer, prompt: str | Messages, max_len: int | None = None) -> list[int]:
    """Ids of a prompt, up to where the assistant's answer starts: those of `apply_chat_template`.

    Beyond `max_len` tokens it loses its left end (`cut_prompt`). Raises ValueError if it does not end in a user's turn, if
    it is already rendered, and for turns that the template refuses.
    """
    messages = check_prompt(tokenizer, prompt)
    if is_plain(tokenizer, messages):
        ids = list(render(tokenizer, messages, True, tokenize=True))
    else:
        ids = sum((new for _, new, _ in encode_turns(tokenizer, messages, True)), [])
    return ids if max_len is None else cut_prompt(tokenizer, ids, max_len)


def check_prompt(tokenizer: Tokenizer, prompt: str | Messages) -> Messages:
    """The prompt's messages. ValueError unless they end in a user's turn; and where a text has been rendered before."""
    messages = to_messages(prompt)
    if not messages or messages[-1]["role"] != "user":
        raise ValueError(f"the prompt {str(prompt)[:60]!r} does not end in a user's turn with text to answer")
    for m in messages if tokenizer.chat_template else ():
        if m["role"] == "user" and is_rendered(tokenizer, m["content"]):
            raise ValueError(f"the prompt {m['content'][:60]!r} is already rendered by the chat template; give the user's text "
                             "alone, or messages: the template is applied here")
    return messages


def is_rendered(tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text begins as the template begins a conversation, and holds what it writes after a user's text."""
    known, text = facts(tokenizer), text.strip()
    head = known.head.removeprefix(tokenizer.bos_token or "").strip()
    tail = known.tail.strip()
    opening = re.match(r"\W*\w+", head)  # of a first turn by whatever role, such as "<|im_start|>"
    starts = [x for x in (head, head.split("\n")[0], opening and opening[0]) if x and re.search(r"\W", x)]
    return bool(tail) and tail in text and any(text.removeprefix(tokenizer.bos_token or "").strip().startswith(x) for x in starts)


def cut_prompt(tokenizer: Tokenizer, ids: list[int], max_len: int) -> list[int]:
    """The last `max_len` ids of a prompt; BOS and the head of the last turn ("<|user|>") stay where there is room.

    Raises ValueError for a max_len below 1.
    """
    if max_len < 1:
        raise ValueError(f"max_len is {max_len}; a prompt needs at least 1 token")
    if len(ids) <= max_len:
        return ids
    known = facts(tokenizer)
    bos = ids[:1] if ids[0] == tokenizer.bos_token_id and ids[0] not in known.ends else []
    head, place = last_head(tokenizer, ids)
    if len(ids) - place + len(bos) <= max_len:  # the whole last turn has room
        head = []
    tail = len(encode_text(tokenizer, known.tail, special=True))  # must stay: it opens the answer
    for keep in (bos + head, head, bos, []):
        if len(keep) + tail < max_len or not keep:
            return keep + ids[-(max_len - len(keep)):]
    return ids[-max_len:]


def last_head(tokenizer: Tokenizer, ids: list[int]) -> tuple[list[int], int]:
    """The ids that open the last user's turn, such as <|im_start|> user, and their place among `ids`; none where not found."""
    known = facts(tokenizer)
    borders = {*known.ends, tokenizer.bos_token_id}  # it may come after BOS or a system's turn
    for text in (known.head, known.head.rstrip()):  # a space at its end may have become a part of the next token
        new = encode_text(tokenizer, text, special=True)
        new = new[1 + max((i for i, x in enumerate(new) if x in borders), default=-1):]
        if new and not tokenizer.decode(new[:1]).strip():  # of a tokenizer that puts a space before a text, or a line's end
            new = new[1:]
        for place in range(len(ids) - len(new), -1, -1) if new else ():
            if ids[place:place + len(new)] == new:
                return new, place
    return [], 0


# ---- answers ----

def without_end(tokenizer: Tokenizer, text: str) -> str:
    """An answer's text without the end tokens, and the space after them, that it may already bring."""
    ends = [t for t in (tokenizer.convert_ids_to_tokens(i) for i in facts(tokenizer).ends) if t]
    while any(text.rstrip().endswith(t) for t in ends):
        text = text.rstrip()
        text = text.removesuffix(next(t for t in ends if text.endswith(t)))
    return text


def encode_completion(tokenizer: Tokenizer, completion: str, *, eos: bool = True) -> tuple[list[int], list[int]]:
    """Ids and mask of a completion, tokenized by itself, with one end token that is learned too: the one that ends a turn.

    An end already written is not doubled. The mask is 0 on tool outputs, from <out> to </out>. Raises ValueError for anything
    but a str.
    """
    if not isinstance(completion, str):
        raise ValueError(f"completion is {type(completion).__name__}; give a str")
    ids, mask = encode_answer(tokenizer, without_end(tokenizer, completion))
    return (ids + [facts(tokenizer).end], mask + [1]) if eos else (ids, mask)


def answer_after(tokenizer: Tokenizer, messages: Messages, before: list[int], completion: str) -> tuple[list[int], list[int]]:
    """Ids and mask of an answer to a prompt whose ids are `before`: what the whole conversation adds to them.

    Up to and including the first end token. Where the whole does not begin with the prompt's ids, the answer is tokenized
    by itself, and a warning says so once.
    """
    if not isinstance(completion, str):
        raise ValueError(f"completion is {type(completion).__name__}; give a str")
    text = without_end(tokenizer, completion)
    turn = {"role": "assistant", "content": text}
    if not is_plain(tokenizer, [*messages, turn]):
        return encode_completion(tokenizer, text)
    whole = list(render(tokenizer, [*messages, turn], False, tokenize=True))
    if whole[:len(before)] == before:
        ids = through_end(tokenizer, whole[len(before):])
        ids = ids if ids and ids[-1] in facts(tokenizer).ends else [*ids, facts(tokenizer).end]
        return ids, [1] * len(ids)
    warn_once(tokenizer, "the chat template's whole conversation does not begin with the prompt's ids (it cuts or adds text, "
                         "or a token crosses the border); prompt and answer are tokenized apart")
    if facts(tokenizer).tail.rstrip().endswith("<think>"):  # opened by the template already
        text = re.sub(r"\A\s*<think>\n?", "", text)
    return encode_completion(tokenizer, text)


def through_end(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    """The ids up to and including the first end token; all of them where there is none."""
    ends = facts(tokenizer).ends
    return next((ids[:i + 1] for i, x in enumerate(ids) if x in ends), ids)


def encode_pair(
    tokenizer: Tokenizer, prompt: str | Messages, completion: str, max_len: int | None = None,
) -> tuple[list[int], list[int]]:
    """Ids and mask of prompt + completion + end token, as one row; the mask is 1 on what is to be learned.

    Beyond `max_len` tokens the prompt loses its *left* end, all but its last token (`cut_prompt`). A completion that is still
    too long loses its right end, and the end token with it: it did not end there. Raises ValueError for a max_len below 2.
    """
    messages = check_prompt(tokenizer, prompt)
    before = encode_prompt(tokenizer, messages)
    ids, mask = answer_after(tokenizer, messages, before, completion)
    if max_len is not None:
        if max_len < 2:
            raise ValueError(f"max_len is {max_len}; a pair needs 2 tokens or more")
        ids, mask = ids[:max_len - 1], mask[:max_len - 1]
        before = cut_prompt(tokenizer, before, max_len - len(ids))
    return before + ids, [0] * len(before) + mask


def encode_messages(tokenizer: Tokenizer, messages: Messages, *, turns: str = "last") -> tuple[list[int], list[int]]:
    """Ids and mask of a conversation that ends with the assistant's answer.

    The mask is 1 on the last answer or, with turns="all", on every answer, end tokens included. Raises ValueError for other
    `turns` and for a conversation that ends otherwise.
    """
    messages = to_messages(messages)
    if turns not in ("last", "all") or not messages or messages[-1]["role"] != "assistant":
        raise ValueError(f"turns is {turns!r} ('last' or 'all'), {len(messages)} messages; the last is the assistant's")
    ids = encode_prompt(tokenizer, messages[:-1])
    mask = earlier_answers(tokenizer, messages[:-1], ids) if turns == "all" else [0] * len(ids)
    new_ids, new_mask = answer_after(tokenizer, messages[:-1], ids, messages[-1]["content"])
    return ids + new_ids, mask + new_mask


def earlier_answers(tokenizer: Tokenizer, messages: Messages, ids: list[int]) -> list[int]:
    """The mask of a prompt's ids that is 1 on its earlier answers, end tokens included."""
    mask, ends = [0] * len(ids), facts(tokenizer).ends
    if not is_plain(tokenizer, messages):
        mask, last = [], ""
        for role, new_ids, new_mask in encode_turns(tokenizer, messages, True):
            ended = through_end(tokenizer, new_ids)
            if role == "template" and last == "assistant" and ended[-1:] and ended[-1] in ends:
                new_mask = [1] * len(ended) + new_mask[len(ended):]  # the end of an earlier answer is learned too
            mask, last = mask + new_mask, role
        return mask
    for i in [i for i, m in enumerate(messages) if m["role"] == "assistant"]:
        opened = render(tokenizer, messages[:i], True, tokenize=True)
        start = next((k for k, (a, b) in enumerate(zip(opened, ids, strict=False)) if a != b), len(opened))
        answer = through_end(tokenizer, ids[start:])
        if start < len(render(tokenizer, messages[:i], False, tokenize=True)) or answer[-1] not in ends:
            warn_once(tokenizer, "the chat template changes earlier turns, so that some earlier answers are not found in the "
                                 "prompt, and not learned")
            continue
        mask[start:start + len(answer)] = [1] * len(answer)
    return mask


def decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Text of a completion, without special and end tokens, except for the tags of thoughts and of the calculator."""
    kept = TOOLS + THOUGHTS  # a reward may read them
    skip = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special and t.content not in kept}
    skip |= {tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id, *facts(tokenizer).ends}  # ByT5 marks none
    text = tokenizer.decode([i for i in ids if i not in skip], clean_up_tokenization_spaces=False)
    return text.removeprefix(" ") if tokenizer.chat_template is None else text
