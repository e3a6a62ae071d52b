"""Templates: what a tokenizer and its chat template do, found out by rendering a conversation with markers as contents.

Which token ends a turn, what the template writes before and after a user's text, which tokens no content may bring.
"""

import json
import re
import warnings
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from jinja2 import TemplateError

Messages = list[dict[str, str]]  # [{"role": "user", "content": "..."}, ...]

TOOLS = ("<call>", "</call>", "<out>", "</out>")
THOUGHTS = ("<think>", "</think>")
PLAIN = (  # for tokenizers without a template, such as GPT-2's
    "{% for m in messages %}{{ 'Assistant:' + m['content'] + eos_token if m['role'] == 'assistant' else "
    "m['role'].capitalize() + ': ' + m['content'] }}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
TEMPLATE_ERRORS = (TypeError, ValueError, LookupError, AttributeError)  # of templates' own code; jinja's are RuntimeError's kin


@dataclass(frozen=True)
class Facts:
    """What is known of a tokenizer and its template."""

    end: int                       # the token with which an answer ends
    ends: tuple[int, ...]          # every end token of the tokenizer and the template
    guarded: re.Pattern | None     # the text of tokens that no content may bring
    answers: re.Pattern | None     # the same for answers, which may think
    head: str                      # what is written before the first user's text,
    tail: str                      # and after the last one, up to where the answer starts


_FACTS: WeakKeyDictionary = WeakKeyDictionary()


def facts(tokenizer: Any) -> Facts:
    """What a tokenizer and its template do, found out once by rendering a conversation with markers as contents."""
    key = (str(tokenizer.chat_template), tokenizer.eos_token, len(tokenizer.get_added_vocab()))
    if _FACTS.get(tokenizer, (None,))[0] != key:
        _FACTS[tokenizer] = (key, find_facts(tokenizer))
    return _FACTS[tokenizer][1]


def find_facts(tokenizer: Any) -> Facts:
    """`facts`, without the memory."""
    user, assistant = "\ue0000\ue001", "\ue0001\ue001"
    asked = render(tokenizer, [{"role": "user", "content": user}], True)
    both = render(tokenizer, [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}], False)
    head, _, tail = asked.partition(user)
    added = {token: i for token, i in tokenizer.get_added_vocab().items() if token.strip()}
    special = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special} | set(tokenizer.all_special_tokens)
    after = pattern(added).findall(both.partition(assistant)[2]) if added else []
    eos = tokenizer.eos_token_id
    end = added[after[0]] if after else eos
    ends = [i for i in dict.fromkeys([eos, end]) if i is not None]
    structure = {t for t in added if t in special or added[t] in ends or t in head + tail + both}
    thinks = structure - set(THOUGHTS) | set(added) & set(TOOLS)
    return Facts(end, tuple(ends), pattern(structure), pattern(thinks), head, tail)


def pattern(words) -> re.Pattern | None:
    """A pattern that finds any of the words, the longest first; None for no words."""
    return re.compile("|".join(re.escape(w) for w in sorted(words, key=len, reverse=True))) if words else None


def render(tokenizer: Any, messages: Messages, generate: bool, *, tokenize: bool = False) -> str | list[int]:
    """A conversation as text, or as ids, by the tokenizer's chat template (or a plain one).

    generate: whether it ends where the assistant's next answer starts. Raises ValueError for turns that the template refuses.
    """
    try:
        return tokenizer.apply_chat_template(
            messages, add_generation_prompt=generate, tokenize=tokenize,
            chat_template=None if tokenizer.chat_template else PLAIN, **({"return_dict": False} if tokenize else {}))
    except (TemplateError, *TEMPLATE_ERRORS) as error:
        roles = ", ".join(m["role"] for m in messages)
        raise ValueError(f"the chat template refuses turns {roles}: {error}; give turns it knows") from error


_SPELLERS: WeakKeyDictionary = WeakKeyDictionary()


def encode_text(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    """Ids of a text, without BOS. If not `special`, "<|end|>" is seven characters like any others."""
    guarded = None if special else facts(tokenizer).guarded
    if guarded is None or not guarded.search(text):
        return tokenizer(text, add_special_tokens=False).input_ids
    core = getattr(tokenizer, "backend_tokenizer", None)
    if not hasattr(core, "to_str"):  # a tokenizer written in Python: it spells out special tokens, other added ones stay
        return tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    if tokenizer not in _SPELLERS:
        _SPELLERS[tokenizer] = speller(core)
    return _SPELLERS[tokenizer].encode(text, add_special_tokens=False).ids


def speller(core: Any) -> Any:
    """The same tokenizer without any added token: every text comes out as ordinary text."""
    content = json.loads(core.to_str())
    content |= {"added_tokens": [], "post_processor": None, "padding": None, "truncation": None}
    return type(core).from_str(json.dumps(content))


_WARNED: WeakKeyDictionary = WeakKeyDictionary()


def warn_once(tokenizer: Any, text: str) -> None:
    """Warn, once for each tokenizer."""
    if text not in _WARNED.setdefault(tokenizer, set()):
        _WARNED[tokenizer].add(text)
        warnings.warn(text, stacklevel=4)
