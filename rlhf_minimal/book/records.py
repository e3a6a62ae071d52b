"""Recorded runs: what `data/runs/` holds, ready to be drawn and read."""

import json
import platform
import re
import textwrap
from datetime import date
from types import SimpleNamespace

from .. import SHIPPED
from .quote import quote


def mean_and_range(values, digits: int = 2) -> str:
    """Numbers, one for each seed -> "1.50 (1.00 to 2.00)": mean, lowest and highest.

    >>> mean_and_range([1, 2])
    '1.50 (1.00 to 2.00)'
    """
    values = [float(v) for v in values]
    mean, low, high = (f"{v:.{digits}f}".replace("-", "−") for v in (sum(values) / len(values), min(values), max(values)))
    return f"{mean} ({low} to {high})"


def running_means(values, over: int) -> list:
    """The mean of each `over` values in a row.

    >>> running_means([1, 2, 3, 4], 2)
    [1.5, 2.5, 3.5]
    """
    return [sum(values[i:i + over]) / over for i in range(len(values) - over + 1)]


STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}  # 97.5 % of Student's t


def over_runs(values) -> tuple[float, float]:
    """(mean, half width of its 95 % interval by Student's t) of 2 to 10 independent runs: the unit is the run.

    >>> mean, half = over_runs([1.0, 2.0, 3.0])  # standard error 0.577, t 4.303
    >>> mean, round(half, 2)
    (2.0, 2.48)
    """
    values = [float(v) for v in values]
    if len(values) not in STUDENT:
        raise ValueError(f"{len(values)} runs; an interval over runs needs 2 to {max(STUDENT)}")
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return mean, STUDENT[len(values)] * (variance / len(values)) ** 0.5


def interval(values, digits: int = 2) -> str:
    """2 to 10 independent runs -> "−0.33 ± 0.22": their mean and half of its 95 % interval (`over_runs`).

    >>> interval([-1.0, 0.0, 1.0, 4.0])
    '1.00 ± 3.44'
    """
    return plus_minus(over_runs(values), digits)


def quotes(values: dict, digits: int = 2, *, sign: bool = False) -> None:
    """`quote` of several: {name: text}, or {name: one number for each run}, told as mean and half of its 95 % interval.

    >>> quotes({"kl": 3.0})
    Traceback (most recent call last):
        ...
    ValueError: quotes 'kl': give a text, or one number for each run
    """
    for name, value in values.items():
        if isinstance(value, str):
            quote(name, value)
        elif hasattr(value, "__len__"):
            mean, half = over_runs(value)
            quote(name, f"{mean:{'+' if sign else ''}.{digits}f} ± {half:.{digits}f}")
        else:
            raise ValueError(f"quotes {name!r}: give a text, or one number for each run")


def quote_runs(found: dict, *, digits: int = 2, sign: bool = False, percent: bool = False) -> None:
    """`quote` the mean of each {name: one value for each run} with half of its 95 % interval over runs: "1.50 ± 0.25".

    sign: with a plus where it is above 0. percent: shares as "14 ± 9 %".
    """
    for name, values in found.items():
        quote(name, plus_minus(over_runs(values), digits, sign=sign, percent=percent))


def plus_minus(found: tuple[float, float], digits: int = 2, *, sign: bool = False, percent: bool = False) -> str:
    """(mean, half width) as a sentence has it; sign: with a plus above 0; percent: shares, as "14 ± 9 %".

    >>> plus_minus((-0.06, 0.07))
    '−0.06 ± 0.07'
    """
    if percent:
        return "{:.0f} ± {:.0f} %".format(*(100 * x for x in found)).replace("-", "−")
    mean, half = found
    return f"{mean:{'+' if sign else ''}.{digits}f} ± {half:.{digits}f}".replace("-", "−")


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

    def last(self, column: str) -> list:
        """The last value of a column, one for each seed."""
        return [y[-1] for y in self.seeds(column)]

    def smooth(self, column: str, over: int = 9) -> list:
        """One list of running means over `over` steps for each seed: what the plots of recorded runs draw."""
        return [running_means(y, over) for y in self.seeds(column)]

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

    def means(self, column: str) -> list:
        """The mean over the seeds at each place of a column."""
        return [sum(values) / len(values) for values in zip(*self.seeds(column), strict=True)]

    def groups(self, part: str, groups: dict, rows: dict, what: str) -> dict:
        """{label: {row: one value for each seed}} for `plots.dots`, of groups {label: its key} and rows {row: its key}."""
        return {label: {row: self.values(part, key, group, what) for row, key in rows.items()} for label, group in groups.items()}

    def rise(self, column: str) -> list:
        """Last value minus first value of a column, one number for each seed."""
        return [y[-1] - y[0] for y in self.seeds(column)]

    def ahead(self, arm: str, other: str, what: str) -> tuple[float, float]:
        """(mean, half width of its 95 % interval over seeds) of what one arm has more than another: paired by seed."""
        pairs = zip(self.values("arms", arm, what), self.values("arms", other, what), strict=True)
        return over_runs([x - y for x, y in pairs])

    def regained(self, arm: str, start: str, end: str, what: str) -> list:
        """The part of the way from `start` to `end` that an arm covers, one number for each seed."""
        found = self.values("arms", [arm, start, end], what)
        return [(x - low) / (high - low) for x, low, high in found]

    def gaps(self, part: str, family: str, high: str, low: str, what: str = "score", digits: int = 1) -> str:
        """Range over the seeds of what one of two entries of `part` has more than the other: "0.4 to 0.9"."""
        found = [one[high][what] - one[low][what] for one in self.values(part, family)]
        return f"{min(found):.{digits}f} to {max(found):.{digits}f}".replace("-", "−")

    def arm(self, name: str, families, what: str = "gold"):
        """Tensor (families, seeds): a measurement of one arm."""
        import torch
        return torch.tensor(self.values("arms", name, list(families), what), dtype=torch.float32).T

    def reach(self, name: str, families, what: str = "gold", digits: int = 0) -> str:
        """Lowest to highest seed of a measurement of one arm, averaged over families: "2 to 14", for a table."""
        low, high = (f(self.arm(name, families, what).mean(0)).item() for f in (min, max))
        return f"{low:.{digits}f} to {high:.{digits}f}".replace("-", "−") if high - low > 1e-9 else f"{low:.{digits}f}"

    def moves(self, names, families, start: str = "start") -> list:
        """[(KL in nats, true reward minus that of the arm `start`)], both averaged over families: a pair for each arm and seed."""
        began = self.arm(start, families).mean(0)
        return [pair for name in names for pair in zip(self.arm(name, families, "kl").mean(0).tolist(),
                                                       (self.arm(name, families).mean(0) - began).tolist(), strict=True)]

    def wins(self, name: str, other: str, families) -> int:
        """In how many seeds an arm's true reward, averaged over families, is above another arm's."""
        return int((self.arm(name, families).mean(0) > self.arm(other, families).mean(0)).sum())

    def best(self, names, families) -> list:
        """The arm with the highest true reward, averaged over families, of each seed."""
        names = list(names)
        means = [self.arm(name, families).mean(0).tolist() for name in names]
        return [names[seed.index(max(seed))] for seed in zip(*means, strict=True)]

    def arm_rows(self, arms: list, families: dict, start: str = "SFT") -> dict:
        """Rows of a table that compares arms over seeds. `arms`: names, or {label: name}; families {family: its column}.

        True reward by family and over all, in how many seeds it is above the arm `start`, and the KL where it is not 0.
        """
        rows = {}
        for label, name in (pair for a in arms for pair in (a.items() if isinstance(a, dict) else [(a, a)])):
            gold, kl = self.arm(name, families), self.arm(name, families, "kl").mean(0)
            rows[label] = {column: mean_and_range(values) for column, values in zip(families.values(), gold, strict=True)} | {
                "both kinds": mean_and_range(gold.mean(0)),
                f"seeds above {start}": None if name == start else f"{self.wins(name, start, families)} of {gold.shape[1]}",
                "KL, nats": mean_and_range(kl, 1) if kl.any() else None}
        return rows

    def interval_rows(self, arms: dict, families: dict, *, refused: str = "", start: str = "start") -> dict:
        """Rows {label: {column: (mean, half width of its 95 % interval over seeds)}} for arms {label: name}.

        True reward by family {family: its column} and over all, the share of refusals in the family `refused` (its mean
        alone), and the KL in nats; that of the arm `start` and of programs, which have none, is None.
        """
        rows = {}
        for label, name in arms.items():
            gold, one = self.arm(name, families), self.values("arms", name)[0]
            rows[label] = {column: over_runs(values) for column, values in zip(families.values(), gold, strict=True)} | {
                "both kinds": over_runs(gold.mean(0))}
            if refused:
                rows[label][f"{families[refused]} refused"] = self.arm(name, [refused], "refuses").mean().item()
            measured = name != start and all("kl" in one[family] for family in families)
            rows[label]["KL, nats"] = over_runs(self.arm(name, families, "kl").mean(0)) if measured else None
        return rows

    def rows(self, arms: dict, columns: dict) -> dict:
        """{label: {column: (mean, half width of its 95 % interval over seeds)}} of arms {label: its name}.

        columns {column: where it stands in an arm, such as ("all", "gold")}.
        """
        return {label: {column: over_runs(self.values("arms", name, *path)) for column, path in columns.items()}
                for label, name in arms.items()}

    def selection_rows(self, arms: dict, families) -> dict:
        """Rows {label: {"kept rows", "the model", "KL"}} of arms {label: name} that learned from kept answers, over runs.

        True reward of what an arm kept and of its model's answers, and KL in nats; each with half of its 95 % interval, None
        where an arm has no such number. Families count alike.
        """
        rows = {}
        for label, name in arms.items():
            kept, done = (all(name in one for one in part.values()) for part in (self.kept, self.arms))
            rows[label] = {"kept rows": over_runs(self.values("kept", name, "mean")) if kept else None,
                           "the model": over_runs(self.arm(name, families).mean(0)) if done else None,
                           "KL": over_runs(self.arm(name, families, "kl").mean(0)) if kept and done else None}
        return rows

    def frontier(self, arms, families) -> tuple[list, list]:
        """(KL in nats, true reward), means over seeds and families, one of each for an arm: a curve for a plot."""
        kl, gold = ([self.arm(arm, families, what).mean().item() for arm in arms] for what in ("kl", "gold"))
        return kl, gold

    def gain(self, family: str = "all") -> tuple[float, float]:
        """(mean true reward of held-out answers, after minus before; its standard error) of a family of prompts."""
        then, now = (self.held_out[when] for when in ("before", "after"))
        if family not in then or family not in now:
            raise ValueError(f"no family {family!r}; held out were {', '.join(k for k in now if k != 'texts')}")
        errors = (then[family]["standard_error"], now[family]["standard_error"])
        return now[family]["mean"] - then[family]["mean"], (errors[0] ** 2 + errors[1] ** 2) ** 0.5

    def kind_rows(self, names: dict) -> dict:
        """Rows of a table: for each {kind of request: its name} true reward (mean, half of its 95 % interval) and share refused.

        Of the held-out answers before and after training, and of the competitors in `cheap`, where the run has any.
        """
        rows = {}
        found = {f"{when} training": self.held_out[when] for when in ("before", "after")} | getattr(self, "cheap", {})
        for row, of in found.items():
            rows[row] = {}
            for kind, name in names.items():
                rows[row] |= {name: (of[kind]["mean"], 1.96 * of[kind]["standard_error"]),
                              f"{name} refused": f"{100 * of[kind]['refuses']:.0f} %"}
        return rows

    def by_kind(self, units: dict, kinds: dict, from_start: tuple = ()) -> dict:
        """What `plots.panels` draws: {unit: {label: (steps, one curve a seed)}}, of units {unit: column} and kinds {kind: label}.

        The columns are called "score harmful", … and may be numbered by seeds. Of the columns in `from_start` each curve is
        given minus its own first value, so that 0 is the start.
        """
        def curves(column, kind):
            rows = self.seeds(f"{column} {kind}")
            return [[v - y[0] for v in y] for y in rows] if column in from_start else rows
        return {unit: {label: (self.curve["step"], curves(column, kind)) for kind, label in kinds.items()}
                for unit, column in units.items()}

    def one_kind(self, kind: str, names: dict) -> dict:
        """Rows of a table for one kind of request: true reward with half of its 95 % interval, share refused, score gained.

        names {"before": label, "after": label}; the competitors in `cheap` follow. The score is given minus that of "before".
        """
        found = {label: self.held_out[when] for when, label in names.items()} | getattr(self, "cheap", {})
        start = self.held_out["before"][kind]["score"]
        return {label: {"true reward": (of[kind]["mean"], 1.96 * of[kind]["standard_error"]),
                        "refused": f"{100 * of[kind]['refuses']:.0f} %", "score gained": of[kind]["score"] - start}
                for label, of in found.items()}

    def families(self, names: dict, stages: dict | None = None) -> dict:
        """{row: {"before": (mean true reward, half width of the 95 % interval), "after": …}} of {family: name of its row}.

        stages {what held_out calls it: name of its column}: other columns than before and after.
        """
        stages = stages or {"before": "before", "after": "after"}
        return {name: {column: (found[family]["mean"], 1.96 * found[family]["standard_error"])
                       for key, column in stages.items() for found in [self.held_out[key]]} for family, name in names.items()}

    def stage_rows(self, names: dict, stages: dict) -> dict:
        """Rows {stage: {kind: (mean true reward, half of its 95 % interval), "KL, nats": over all requests}} of held_out.

        names {kind of request: its column}; stages {what held_out calls it: name of its row}, the start, which has no KL, first.
        """
        rows = {}
        for i, (key, label) in enumerate(stages.items()):
            of = self.held_out[key]
            rows[label] = {name: (of[kind]["mean"], 1.96 * of[kind]["standard_error"]) for kind, name in names.items()}
            rows[label]["KL, nats"] = of["all"]["kl"] if i else None
        return rows

    def texts(self, stages: dict | None = None) -> list:
        """[(prompt, [("before", text, gold), ("after", text, gold)])]: each fits `cards(prompt, answers)`.

        stages: as in `families`.
        """
        stages = stages or {"before": "before", "after": "after"}
        rows = zip(*(self.held_out[key]["texts"] for key in stages), strict=True)
        return [(row[0]["prompt"], [(name, x["completion"], x["gold"]) for name, x in zip(stages.values(), row, strict=True)])
                for row in rows]

    def texts_of(self, arms: dict, seed: int) -> list:
        """[(prompt, [(label, text, gold)])] of the answers kept in the part `texts`, for arms {label: name} of one seed.

        Each fits `cards(prompt, answers)`. ValueError for an arm that kept none.
        """
        kept = self.texts[str(seed)] if isinstance(self.texts, dict) else {}
        if lacks := [name for name in arms.values() if name not in kept]:
            raise ValueError(f"run {self.name}, seed {seed}: no texts of {lacks[0]!r}; there are {', '.join(kept)}")
        rows = zip(*(kept[name] for name in arms.values()), strict=True)
        return [(row[0]["prompt"], [(label, x["completion"], x["gold"]) for label, x in zip(arms, row, strict=True)])
                for row in rows]

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


def stamp() -> dict:
    """versions, hardware and date of a run on one thread, for its file in data/runs."""
    import torch
    return {"versions": {"python": platform.python_version(), "torch": torch.__version__},
            "hardware": f"1 CPU thread, {platform.machine()}", "date": str(date.today())}


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


def unnamed_logs() -> dict[str, list[float]]:
    """{"log A": losses, …}: four training logs of four stages in a mixed order, at most 25 losses each, for an exercise."""
    found = [recorded("smollm2_dpo").curve["loss"], training_curve("village-3m"),
             recorded("smollm2_rloo").curve["loss"], training_curve("village-3m-sft")]
    return {f"log {letter}": losses[:25] for letter, losses in zip("ABCD", found, strict=True)}
