"""The command chat: turns and commands with a scripted model, then a real one through a pipe."""

import io
import os
import subprocess
import sys

import pytest

from rlhf_minimal.commands import chat


def scripted():
    heard = []

    def reply(messages, temperature):
        heard.append((list(messages), temperature))
        if "refuse" in messages[-1]["content"]:
            raise ValueError("the chat template refuses this")
        return f"answer {len(heard)}"

    return heard, reply


def test_turns_and_commands():
    heard, reply = scripted()
    talk, out = chat.Conversation(reply), io.StringIO()
    lines = ["Hello", "/temperature 0.5", "again", "/system Be brief.", "third", "please refuse", "fourth", "/reset", "fifth", "",
             "/temperature -1", "/what", "/quit", "never"]
    chat.session(talk, lines, out)
    assert [len(messages) for messages, _ in heard] == [1, 3, 2, 4, 4, 2]  # the refused turn is taken back
    assert [t for _, t in heard] == [1.0, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert heard[2][0][0] == {"role": "system", "content": "Be brief."} and heard[5][0][0]["role"] == "system"
    said = out.getvalue()
    assert "(the chat template refuses this)" in said and "give 0 or a positive number" in said and said.count(chat.HELP) == 2
    assert all("never" not in str(messages) for messages, _ in heard)


def test_a_real_model_through_a_pipe():
    """Greedy answers are the same before and after /reset; what is printed is what was said."""
    typed = "How much is 2 plus 3?\n/reset\nHow much is 2 plus 3?\n"
    call = [sys.executable, "-m", "rlhf_minimal", "chat", "village-3m-sft", "--temperature", "0", "--max-new-tokens", "24"]
    done = subprocess.run(call, input=typed, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    first, middle, again = done.stdout.splitlines()
    assert done.returncode == 0 and first == again and "5" in first and "begins anew" in middle, done.stderr[-300:]


@pytest.mark.parametrize("args, message", [
    (["no/such"], "no model"), (["village-3m-sft", "--max-new-tokens", "0"], "give 1 or more"),
    (["village-3m-sft", "--temperature", "-1"], "temperature -1.0; give")])
def test_bad_input_ends_in_one_line(args, message, capsys):
    with pytest.raises(SystemExit) as stop:
        chat.main(args)
    assert stop.value.code == 2 and message in capsys.readouterr().err
