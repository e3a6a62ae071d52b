"""Recorded runs: what `data/runs/` holds, ready to be drawn and read."""

import json
import re
import textwrap
from types import SimpleNamespace

from .. import SHIPPED


class Recorded(SimpleNamespace):
    """A run of data/runs/: curve {column: values}, command, seed, versions, hardware, date, name, and what else it holds."""

    def made(self) -> None:
        """Print how, where and when."""
        print(textwrap.fill(f"recorded: {self.command}", 100, subsequent_indent="    "))
        print(f"    {self.hardware}, {self.date}, torch {self.versions['torch']}")

    def seeds(self, column: str) -> list:
        """The values of a column, one list for each seed: columns "gold 0", "gold 1", …, or the one column "gold"."""
        numbered = [c for c in self.curve if re.fullmatch(re.escape(column) + r" \d+", c)]
        if column not in self.curve and not numbered:
            raise ValueError(f"run {self.name} has no column {column!r}; it has {', '.join(sorted(self.curve))}")
        names = [column] if column in self.curve else sorted(numbered, key=lambda c: int(c.rsplit(" ", 1)[1]))
        return [self.curve[c] for c in names]

    def smooth(self, column: str, over: int = 9) -> list:
        """One list of running means over `over` steps for each seed: what the plots of recorded runs draw."""
        return [[sum(y[i:i + over]) / over for i in range(len(y) - over + 1)] for y in self.seeds(column)]

    def values(self, part: str, *keys: str | list[str]) -> list:
        """One number for each seed of a part {seed: {…}}: values("arms", "PPO 0.5", "harmful", "gold").

        A list of keys gives a list for each seed: values("arms", ["PPO 0.5", "PPO 1"], "harmful", "gold").
        """
        def down(one, first, *rest):
            if isinstance(first, list):
                return [down(one, name, *rest) for name in first]
            if first not in one:
                raise ValueError(f"run {self.name}, {part}: no {first!r}; there are {', '.join(one)}")
            return down(one[first], *rest) if rest else one[first]

        return [down(one, *keys) for _, one in sorted(getattr(self, part).items(), key=lambda item: int(item[0]))]

    def spread(self, part: str, *keys: str, digits: int = 1) -> str:
        """The range of `values` over the seeds, for a table: "1.4 to 2.0"."""
        found = self.values(part, *keys)
        return f"{min(found):.{digits}f} to {max(found):.{digits}f}".replace("-", "−")

    def gain(self, family: str = "all") -> tuple[float, float]:
        """(mean true reward of held-out answers, after minus before; its standard error) of a family of prompts."""
        then, now = (self.held_out[when] for when in ("before", "after"))
        if family not in then or family not in now:
            raise ValueError(f"no family {family!r}; held out were {', '.join(k for k in now if k != 'texts')}")
        errors = (then[family]["standard_error"], now[family]["standard_error"])
        return now[family]["mean"] - then[family]["mean"], (errors[0] ** 2 + errors[1] ** 2) ** 0.5

    def families(self, names: dict) -> dict:
        """{row: {"before": (mean true reward, half width of the 95 % interval), "after": …}} of {family: name of its row}."""
        return {name: {when: (found[family]["mean"], 1.96 * found[family]["standard_error"])
                       for when in ("before", "after") for found in [self.held_out[when]]} for family, name in names.items()}

    def texts(self) -> list:
        """[(prompt, [("before", text, gold), ("after", text, gold)])]: each fits `cards(prompt, answers)`."""
        then, now = (self.held_out[when]["texts"] for when in ("before", "after"))
        return [(a["prompt"], [("before", a["completion"], a["gold"]), ("after", b["completion"], b["gold"])])
                for a, b in zip(then, now, strict=True)]

    def before_after(self) -> tuple[float, float]:
        """Print the true reward of held-out answers, and some of them -> (gain, its standard error)."""
        then, now = (self.held_out[when] for when in ("before", "after"))
        print("true reward of held-out answers, ± standard error")
        for family in (name for name in now if name != "texts"):
            was, x = then[family], now[family]
            print(f"  {family:<10}{x['n']:>4} answers   before {was['mean']:5.2f} ± {was['standard_error']:.2f}"
                  f"   after {x['mean']:5.2f} ± {x['standard_error']:.2f}")
        for prompt, answers in self.texts():
            print(f"PROMPT  {prompt}")
            for name, text, gold in answers:
                print(f"  {name:<7}{gold:6.2f}  {' '.join(text.split())[:75]}")
        self.made()
        return self.gain()


def recorded(name: str) -> Recorded:
    """data/runs/<name>.json -> Recorded. ValueError where a part is missing."""
    path, need = SHIPPED / f"runs/{name}.json", {"curve", "command", "seed", "versions", "hardware", "date"}
    raw = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if lacks := sorted(need - raw.keys()):
        known = sorted(p.stem for p in path.parent.glob("*.json"))
        raise ValueError(f"no complete recorded run {name!r}, it lacks {lacks}; data/runs has {known}")
    return Recorded(**{**raw, "name": name})


def training_curve(name: str) -> list[float]:
    """The logged losses of a shipped village model's own training, in nats per token, every twentieth step."""
    path = SHIPPED / "models" / name / "training.json"
    if not path.exists():
        known = sorted(p.parent.name for p in (SHIPPED / "models").glob("*/training.json"))
        raise ValueError(f"no training curve of {name!r}; there are those of {', '.join(known)}")
    record = json.loads(path.read_text(encoding="utf-8"))
    return [loss for _, loss in record["curve"]]
