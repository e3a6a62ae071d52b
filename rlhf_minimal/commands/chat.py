"""Talk to a trained model in the terminal: `python -m rlhf_minimal chat RUN`.

RUN is the folder of a run, another model's folder, a name such as village-3m-sft, or a hub id. Answers appear as they are
written. /system TEXT sets the system prompt, /reset forgets the conversation, /temperature 0.7 changes the sampling, /quit
(or Ctrl-D) ends.
"""

import argparse
import sys
from collections.abc import Callable, Iterable

HELP = "/system TEXT · /reset · /temperature X · /quit"


class Conversation:
    """The turns so far, and what the commands among them change; `reply(messages, temperature)` writes an answer, returns it."""

    def __init__(self, reply: Callable[[list[dict], float], str], *, system: str = "", temperature: float = 1.0):
        self.reply, self.system, self.temperature = reply, system, temperature
        self.turns: list[dict] = []

    def messages(self) -> list[dict]:
        """The system prompt, where there is one, and all turns."""
        return ([{"role": "system", "content": self.system}] if self.system else []) + self.turns

    def take(self, line: str) -> str | None:
        """One line of the user -> what to print after it, or None to end. A turn that fails is taken back."""
        word, _, rest = line.strip().partition(" ")
        if word == "/quit":
            return None
        if word == "/reset":
            self.turns.clear()
            return "(the conversation begins anew)"
        if word == "/system":
            self.system = rest.strip()
            self.turns.clear()
            return f"(system prompt: {self.system or 'none'}; the conversation begins anew)"
        if word == "/temperature":
            try:
                value = float(rest)
                if not 0 <= value < float("inf"):
                    raise ValueError
            except ValueError:
                return f"(temperature is {rest!r}; give 0 or a positive number)"
            self.temperature = value
            return f"(temperature {value:g})"
        if word.startswith("/") or not word:
            return HELP
        self.turns.append({"role": "user", "content": line.strip()})
        try:
            said = self.reply(self.messages(), self.temperature)
        except ValueError as error:
            self.turns.pop()
            return f"({error})"
        self.turns.append({"role": "assistant", "content": said})
        return ""


def writer(name: str, max_new_tokens: int, seed: int, out=sys.stdout) -> Callable[[list[dict], float], str]:
    """A function that lets the model `name` answer, token by token to `out`. OSError or ValueError where it cannot be had."""
    import torch
    from transformers import TextStreamer

    from .. import models
    from ..chat import encode_prompt, end_ids
    model, tokenizer = models.load(name)
    limit = models.context_length(model)
    torch.manual_seed(seed)

    class Stream(TextStreamer):
        """To `out` instead of the standard output."""

        def on_finalized_text(self, text, stream_end=False):
            out.write(text + ("\n" if stream_end else ""))
            out.flush()

    def reply(messages: list[dict], temperature: float) -> str:
        room = None if limit is None else limit - max_new_tokens
        ids = torch.tensor([encode_prompt(tokenizer, messages, room)])
        how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
        how |= {"max_new_tokens": max_new_tokens, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": end_ids(tokenizer, model)}
        stream = Stream(tokenizer, skip_prompt=True, skip_special_tokens=True)
        done = model.generate(ids, attention_mask=torch.ones_like(ids), streamer=stream, **how)
        return tokenizer.decode(done[0, ids.shape[1]:], skip_special_tokens=True).strip()

    return reply


def session(talk: Conversation, lines: Iterable[str], out=sys.stdout) -> None:
    """Line after line until /quit or the end."""
    for line in lines:
        said = talk.take(line)
        if said is None:
            return
        if said:
            print(said, file=out, flush=True)


def prompts() -> Iterable[str]:
    """What is typed, with a prompt where this is a terminal."""
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except (EOFError, KeyboardInterrupt):
            return


def main(args: list[str] | None = None) -> None:
    """The command; bad input ends with one line that says what is wrong (status 2)."""
    about = argparse.ArgumentParser(prog="python -m rlhf_minimal chat", description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    about.add_argument("model", metavar="RUN", help="folder of a run or model, a name, or a hub id")
    about.add_argument("--system", default="", help="a system prompt (default: none)")
    about.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest token (default: 1)")
    about.add_argument("--max-new-tokens", type=int, default=128, help="the longest answer (default: 128)")
    about.add_argument("--seed", type=int, default=0, help="of the answers (default: 0)")
    given = about.parse_args(args)
    from ..quiet import settle
    settle(quiet=True, offline=False)
    try:
        if given.max_new_tokens < 1 or not 0 <= given.temperature < float("inf"):
            raise ValueError(f"max-new-tokens {given.max_new_tokens}, temperature {given.temperature}; give 1 or more, 0 or more")
        reply = writer(given.model, given.max_new_tokens, given.seed)
    except (OSError, ValueError) as error:
        print(f"chat: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    if sys.stdin.isatty():
        print(HELP)
    session(Conversation(reply, system=given.system, temperature=given.temperature), prompts())
