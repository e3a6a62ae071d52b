"""`python -m rlhf_minimal COMMAND`: train, evaluate, compare, chat, extract, label, doctor. Without a command: what there is."""

import importlib
import sys

COMMANDS = {  # name: (module with main(args), what it does)
    "train": ("train.cli", "fine-tune, align or train a reward model: every algorithm, one process or many"),
    "extract": ("extract.extraction", "write one algorithm as a single file that needs no package"),
    "evaluate": ("commands.evaluate", "what training changed, on rows that it did not see, with intervals"),
    "compare": ("commands.compare", "runs beside each other: settings that differ, curves, win rate"),
    "chat": ("commands.chat", "talk to a model in the terminal"),
    "label": ("commands.label", "compare pairs of answers yourself, one key per label"),
    "doctor": ("commands.doctor", "what this machine has, and which models are here"),
}


def main(args: list[str] | None = None) -> None:
    """Run one command; a wrong or missing one ends with the list of commands (status 2 if it was wrong)."""
    args = sys.argv[1:] if args is None else args
    listing = "\n".join(f"  {name:9} {about}" for name, (_, about) in COMMANDS.items())
    usage = f"usage: python -m rlhf_minimal COMMAND ...\n\n{listing}\n\npython -m rlhf_minimal COMMAND --help teaches the command."
    if not args or args[0] in ("-h", "--help"):
        return print(usage)
    if args[0] not in COMMANDS:
        print(f"there is no command {args[0]!r}\n\n{usage}", file=sys.stderr)
        raise SystemExit(2)
    importlib.import_module(f"rlhf_minimal.{COMMANDS[args[0]][0]}").main(args[1:])


if __name__ == "__main__":
    main()
