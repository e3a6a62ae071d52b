"""Pictures that the reader moves: sliders in Jupyter, precomputed frames with a plain slider on an exported page.

`compute` is pure and fast, `draw` puts its result on axes, `say` turns it into words. The stored page needs no kernel:
all frames lie in it, and the browser's own slider, which the keyboard reaches, chooses one. Where no script runs, the
still picture at three settings tells the same.
"""

import base64
import itertools
import json
import math

from .output import FONT, LINE, escape, identity, interactive, picture, publish, show
from .plots import BLACK, BLUE, GREY, ROLES, _smooth, _styles, plt, short
from .records import Recorded
from .tables import cards_markup, number, said

MOST = 24  # frames of one explorer: they all lie in the page

# Which frame: the positions of the inputs, read as digits of a mixed-radix number.
MOVE = ("const r=this.closest('.rlhf-explorer'),f=JSON.parse(r.querySelector('template').content.textContent);let n=0;"
        "r.querySelectorAll('[data-size]').forEach(e=>{n=n*+e.dataset.size+(+e.value);"
        "if(e.type=='range'){const v=JSON.parse(e.dataset.names)[+e.value];e.nextElementSibling.textContent=v;"
        "e.setAttribute('aria-valuetext',v)}});const i=r.querySelector('img');"
        "if(i){i.src='data:image/png;base64,'+f[n].png;i.alt=f[n].alt}r.querySelector('.words').innerHTML=f[n].words")


class Explorer:
    """compute(**values) -> data; draw(data, ax) paints it; say(data) -> a sentence, or (plain text, HTML).

    grids: name=[values] for everything that moves, at most 24 settings together; numbers get a slider, words a menu.
    start: {name: value} of the first frame (the middle one otherwise). alt: what the picture shows; nothing measured.
    still: a function that draws the still picture, where three settings under each other are not the best one.
    """

    def __init__(self, compute, draw=None, say=None, *, title, alt="", start=None, size=(6.2, 2.7), still=None, **grids):
        if not grids or not all(len(values) for values in grids.values()) or (draw is None and say is None):
            raise ValueError("an explorer needs grids name=[values], none empty, and draw or say")
        settings = math.prod(len(values) for values in grids.values())
        if settings > MOST:
            raise ValueError(f"{settings} settings in {', '.join(grids)}; give at most {MOST} together: each is a picture")
        self.compute, self.draw, self.say, self.title, self.size = compute, draw, say, title, size
        self._still = still
        self.grids = {name: list(values) for name, values in grids.items()}
        self.alt = alt or short(f"Explorer at three settings of {', '.join(grids)}: {title}")
        self.first = {name: (start or {}).get(name, values[len(values) // 2]) for name, values in self.grids.items()}
        if wrong := [n for n, v in self.first.items() if v not in self.grids[n]] + [n for n in start or {} if n not in grids]:
            raise ValueError(f"start of {', '.join(wrong)} is not among the values that it can take")

    def settings(self) -> list[dict]:
        """Every setting {name: value}, in the order of the frames."""
        return [dict(zip(self.grids, values, strict=True)) for values in itertools.product(*self.grids.values())]

    def corners(self) -> list[dict]:
        """Every setting in which each name has its first or its last value: what a test tries."""
        ends = [list(dict.fromkeys((values[0], values[-1]))) for values in self.grids.values()]
        return [dict(zip(self.grids, values, strict=True)) for values in itertools.product(*ends)]

    def paint(self, **values) -> bytes:
        """One frame as a PNG."""
        fig, ax = plt.subplots(figsize=self.size, layout="constrained")
        self.draw(self.compute(**values), ax)
        return picture(fig, dpi=130, colours=48)

    def words(self, data) -> tuple[str, str]:
        """What one frame says -> (plain text, HTML)."""
        found = self.say(data) if self.say else ""
        return found if isinstance(found, tuple) else (found, f"<div style='min-height:1.6em'>{escape(found)}</div>")

    def frame(self, values: dict) -> dict:
        """One frame of the exported page."""
        made = {"words": self.words(self.compute(**values))[1]}
        if self.draw:
            at = ", ".join(f"{name} {label(v)}" for name, v in values.items())
            made |= {"png": base64.b64encode(self.paint(**values)).decode(), "alt": f"{self.title}: {at}"}
        return made

    def still(self):
        """A figure of three settings: all first values, the start or the middle, all last values."""
        if self._still:
            fig = self._still()
        else:
            low, high = ({name: values[i] for name, values in self.grids.items()} for i in (0, -1))
            middle = {name: values[len(values) // 2] for name, values in self.grids.items()}
            middle = middle if self.first in (low, high) else self.first
            shape = (self.size[0], 3 * self.size[1] + 0.4)
            fig, axes = plt.subplots(3, 1, figsize=shape, layout="constrained")
            fig.get_layout_engine().set(hspace=0.06)
            for ax, values in zip(axes, (low, middle, high), strict=True):
                self.draw(self.compute(**values), ax)
        fig.alt = self.alt
        return fig

    def page(self) -> str:
        """The exported explorer as HTML: inputs, one picture, words, and all frames."""
        settings = self.settings()
        frames = [self.frame(values) for values in settings]
        now = frames[settings.index(self.first)]
        name = identity(self.title, self.grids)
        inputs = "".join(self._input(grid, values, name) for grid, values in self.grids.items())
        image = (f"<img src='data:image/png;base64,{now['png']}' alt='{escape(now['alt'])}' "
                 f"style='width:{round(100 * self.size[0])}px;max-width:100%;height:auto;margin:0'>" if self.draw else "")
        stored = escape(json.dumps(frames))
        return (f"<div class='rlhf-explorer' role='group' aria-label='{escape(self.title)}' style='{FONT};border:1px solid {LINE};"
                f"border-radius:10px;padding:12px 16px;margin:12px 0;max-width:860px;box-sizing:border-box'>"
                f"<div style='font-weight:700'>Try it: {escape(self.title)}</div>"
                f"<div style='display:flex;flex-wrap:wrap;gap:6px 24px;margin:8px 0'>{inputs}</div>{image}"
                f"<div class='words' aria-live='polite'>{now['words']}</div><template>{stored}</template></div>")

    def _input(self, grid, values, name):
        at, names = values.index(self.first[grid]), [label(v) for v in values]
        shared = f"id='{name}-{grid}' data-size='{len(values)}' oninput=\"{MOVE}\""
        head = f"<label for='{name}-{grid}' style='display:flex;flex-wrap:wrap;align-items:center;gap:8px'>{escape(grid)} "
        if isinstance(values[0], str):
            options = "".join(f"<option value='{i}'{' selected' if i == at else ''}>{escape(n)}</option>"
                              for i, n in enumerate(names))
            return f"{head}<select {shared} style='font:inherit;max-width:100%'>{options}</select></label>"
        return (f"{head}<input type='range' {shared} min='0' max='{len(values) - 1}' step='1' value='{at}' "
                f"data-names='{escape(json.dumps(names, ensure_ascii=False))}' aria-valuetext='{escape(names[at])}' "
                f"style='width:200px'><output style='min-width:3em;font-variant-numeric:tabular-nums'>{escape(names[at])}"
                f"</output></label>")

    def show(self) -> None:
        """The still picture and, below it, what moves."""
        if self.draw:
            show(self.still(), role="still")
        if interactive():
            return self._widgets()
        publish(f"Explorer: {self.title} ({', '.join(self.grids)})\n{self.words(self.compute(**self.first))[0]}".rstrip(),
                self.page())

    def _widgets(self):
        """Live, in Jupyter: the frame is computed when something moves."""
        import ipywidgets
        from IPython.display import display

        inputs = {n: (ipywidgets.Dropdown if isinstance(v[0], str) else ipywidgets.SelectionSlider)(
            options=[(label(x), x) for x in v], value=self.first[n], description=n) for n, v in self.grids.items()}
        words = ipywidgets.HTML()
        image = ipywidgets.Image(format="png", layout={"width": f"{round(100 * self.size[0])}px"}) if self.draw else None

        def move(_=None):
            values = {n: w.value for n, w in inputs.items()}
            words.value = self.words(self.compute(**values))[1]
            if image:
                image.value = self.paint(**values)
        for w in inputs.values():
            w.observe(move, "value")
        move()
        display(ipywidgets.VBox([*inputs.values(), *([image] if image else []), words]))


def label(value) -> str:
    """A value as it stands beside its slider."""
    return value if isinstance(value, str) else f"{value:g}".replace("-", "−")


# --- the explorers of the lessons -------------------------------------------------------------------------------------
def tilted(p, reward, beta):
    """The best policy of a world that can be listed: p exp(reward / beta) / Z, and its KL to p in nats."""
    top = max(reward)
    weights = [a * math.exp((r - top) / beta) for a, r in zip(p, reward, strict=True)]
    q = [w / sum(weights) for w in weights]
    return q, sum(a * math.log(a / b) for a, b in zip(q, p, strict=True) if a > 0)


def beta_frontier(p, reward, gold, names, betas=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5, 10)) -> Explorer:
    """Move beta along the exact frontier of a world of a few answers: what the best policy says, and what it is worth."""
    p, reward, gold = ([float(v) for v in values] for values in (p, reward, gold))

    def compute(β):
        q, kl = tilted(p, reward, β)
        mean = [sum(a * v for a, v in zip(q, values, strict=True)) for values in (reward, gold)]
        return {"beta": β, "policy": q, "kl": kl, "score": mean[0], "gold": mean[1]}

    def draw(data, ax):
        rows = range(len(names))[::-1]
        ax.barh(rows, data["policy"], color=BLUE, height=0.55)
        ax.plot(p, rows, "|", color=GREY, markersize=22, markeredgewidth=2.5)
        for y, v, before in zip(rows, data["policy"], p, strict=True):
            ax.text(max(v, before) + 0.02, y, f"{100 * v:.0f} %", va="center", color=BLACK)
        ax.set(xlim=(0, 1.12), xlabel="probability of each answer (grey mark: reference)")
        ax.set_yticks(rows, names)
        ax.set_title(f"β = {data['beta']:g}: score {number(data['score'])}, true reward {number(data['gold'])}, "
                     f"KL {number(data['kl'])}", fontsize=12)

    return Explorer(compute, draw, title="what the best policy says at each β", size=(6.2, 1.1 + 0.5 * len(names)), β=list(betas),
                    start={"β": betas[len(betas) // 2]}, alt="Bar plots at three values of beta: a small beta puts all probability "
                    "on the answer with the highest score, a large one leaves the reference as it is")


def beta_kinds(worlds: dict, betas=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5)) -> Explorer:
    """Move one beta for several kinds of request at once: worlds {kind: (names, p, reward, gold)} of a few answers each.

    p may be counts. Each kind has its own best policy; the same beta buys most where the rewards of a kind lie furthest apart.
    """
    rows = [(kind, name) for kind, (names, *_) in worlds.items() for name in names]

    def compute(β):
        found = {}
        for kind, (_, p, reward, gold) in worlds.items():
            p, reward, gold = ([float(v) for v in values] for values in (p, reward, gold))
            p = [v / sum(p) for v in p]
            q, kl = tilted(p, reward, β)
            found[kind] = {"p": p, "q": q, "kl": kl, "gold": sum(a * g for a, g in zip(q, gold, strict=True))}
        return {"beta": β, "kinds": found, "gold": sum(k["gold"] for k in found.values()) / len(found)}

    def draw(data, ax):
        before = [v for k in data["kinds"].values() for v in k["p"]]
        after = [v for k in data["kinds"].values() for v in k["q"]]
        y = [-(i + 1.3 * list(worlds).index(kind)) for i, (kind, _) in enumerate(rows)]
        for kind, found in data["kinds"].items():
            ax.text(0, 0.95 + y[[k for k, _ in rows].index(kind)], f"{kind}: true reward {number(found['gold'])}", va="center",
                    fontweight="bold", color=BLACK)
        ax.barh(y, after, color=BLUE, height=0.6)
        ax.plot(before, y, "|", color=GREY, markersize=17, markeredgewidth=2.5)
        for at, v, was in zip(y, after, before, strict=True):
            ax.text(max(v, was) + 0.02, at, f"{100 * v:.0f} %", va="center", color=BLACK)
        ax.set(xlim=(0, 1.12), ylim=(y[-1] - 0.5, 1.5), xlabel="probability (grey mark: reference)")
        ax.set_yticks(y, [name for _, name in rows])
        ax.set_title(f"β = {data['beta']:g}\nall kinds: true reward {number(data['gold'])}", fontsize=12)

    return Explorer(compute, draw, title="one β, several kinds of request", size=(5.4, 1.7 + 0.38 * len(rows)), β=list(betas),
                    start={"β": betas[len(betas) // 2]}, alt="Bar plots at three values of beta: how often the best policy "
                    "gives each answer, for each kind of request, beside the reference")


def scrubber(run, parts: dict, texts: dict | None = None, *, title="the run, step by step", over=9, most=20,
             along="step", place=None, first=None) -> Explorer:
    """Scrub through a recorded run: parts {y label: {label: column}} with a mark at the step, and what the model wrote then.

    A column of a run over seeds is drawn as one line a seed. texts {step: [(prompt, text, gold)]}; a run with `samples`
    [{"step", "prompt", "completion", "gold"}] brings its own. run: recorded, or its columns {"step": …, column: …}.
    along: what a step is called; place: a function, step -> where it stands on the x axis, such as the root of a KL
    divergence (1, 8, 64 and 512 are named there); first: where the slider starts.
    """
    run = Recorded(name="this run", curve=run) if isinstance(run, dict) else run
    texts = _texts_by_step(run) if texts is None else texts
    steps = sorted(texts) or list(run.curve["step"])
    steps = steps[::max(1, -(-len(steps) // most))]
    curves = {unit: {label: _smooth(run, column, over) for label, column in columns.items()} for unit, columns in parts.items()}

    def compute(**at):
        return {"steps": [at[along]], "texts": texts.get(at[along], [])}

    def draw(data, ax):
        _marked_curves(ax, curves, data["steps"], f"{along} (means over {over})" if over > 1 else along, place)

    def say(data):
        name = f"{along} = {data['steps'][0]}"
        blocks = [cards_markup(prompt, [(name, text, gold)]) for prompt, text, gold in data["texts"]]
        return "\n".join(f"{prompt}: {said(text, 220)}" for prompt, text, _ in data["texts"]), "".join(blocks)

    def still():
        fig, ax = plt.subplots(figsize=(6.2, 3), layout="constrained")
        draw({"steps": [steps[0], steps[len(steps) // 2], steps[-1]]}, ax)
        return fig

    start = {along: first or steps[0]}
    return Explorer(compute, draw, say if texts else None, title=title, start=start, size=(6.2, 3), still=still,
                    alt=short(f"Line plots of {', '.join(parts)} against {along}; vertical lines mark the first, the middle and "
                              f"the last value: {title}"), **{along: steps})


def _texts_by_step(run):
    """{step: [(prompt, text, true reward or None)]} of the samples that a recorded run kept."""
    texts = {}
    for s in getattr(run, "samples", []):
        texts.setdefault(s["step"], []).append((s["prompt"], s["completion"], s.get("gold")))
    return texts


def _marked_curves(ax, curves, steps, x_label, place=None):
    """Panels side by side in the place of `ax`: {y label: {label: (x, y, or one y a seed)}}, with a mark at each step."""
    grid, fig, at = ax.get_subplotspec().subgridspec(1, len(curves)), ax.figure, place or (lambda step: step)
    looks = _styles([label for lines in curves.values() for label in lines], None)
    ax.remove()
    for spec, (unit, lines) in zip(grid, curves.items(), strict=True):
        panel = fig.add_subplot(spec)
        for label, (x, y) in lines.items():
            for i, one in enumerate(y if isinstance(y[0], list) else [y]):
                panel.plot([at(step) for step in x], one, linewidth=1.6, label=label if i == 0 else None,
                           **(looks[label] | {"marker": ""}))
        for step in steps:
            panel.axvline(at(step), color=ROLES["rejected"]["color"], linewidth=1.5)
        panel.set_title(unit, fontsize=11.5, fontweight="normal", color="#444b57")
        panel.set_xlabel(x_label)
        if place:
            panel.set_xticks([at(step) for step in (1, 8, 64, 512)], ["1", "8", "64", "512"])
        if len(lines) > 1:
            panel.legend(frameon=False, fontsize=11)


def answers(stored: dict, *, title="one prompt, one stage") -> Explorer:
    """Choose a prompt and a stage of training, read a stored answer: {prompt: {stage: (text, gold)}} or {prompt: {stage: text}}."""
    stages = list(next(iter(stored.values())))
    if lacking := [prompt for prompt, row in stored.items() if list(row) != stages]:
        raise ValueError(f"prompt {lacking[0]!r} has other stages than the first; expected {', '.join(stages)}")

    def compute(prompt, stage):
        found = stored[prompt][stage]
        return prompt, stage, *(found if isinstance(found, tuple) else (found, None))

    def say(data):
        prompt, stage, text, gold = data
        return f"{prompt}\n  {stage}: {said(text, 220)}", cards_markup(prompt, [(stage, text, gold)])

    return Explorer(compute, None, say, title=title, prompt=list(stored), stage=stages,
                    start={"prompt": next(iter(stored)), "stage": stages[0]})


def shares(compute, names: list, colours: list, *, title: str, **grids) -> Explorer:
    """Bars of a few probabilities: compute(**values) -> one number for each name. Colours are roles such as "chosen"."""
    from .plots import ROLES

    def draw(found, ax):
        ax.bar(names, found, color=[ROLES[role]["color"] for role in colours])
        ax.axhline(1 / len(names), color=ROLES["reference"]["color"], linestyle=":")
        ax.set(ylim=(0, 1), ylabel="probability")

    def say(found):
        return ", ".join(f"{name} {p:.2f}" for name, p in zip(names, found, strict=True))

    return Explorer(compute, draw, say, title=title, **grids,
                    alt=f"Bars of the probabilities of {', '.join(names)} at three settings of {', '.join(grids)}; dotted: equal")


def majority(right=(0.2, 0.35, 0.5), rival=(0.1, 0.4), most=33) -> Explorer:
    """How often a majority elects the right result, against the number of votes, at its probability and that of one rival."""
    from ..evaluate.passes import vote_accuracy

    counts = list(range(1, most + 1, 2))

    def compute(right, rival):
        return right, rival, [vote_accuracy(right, rival, n) for n in counts]

    def draw(data, ax):
        right, rival, found = data
        ax.plot(counts, found, color=BLUE, marker="D", markersize=4, markevery=4, linewidth=1.8)
        ax.set_title(f"right {right}, rival {rival}", fontsize=11.5, fontweight="normal", color="#444b57")
        ax.set(ylim=(0, 1.03), xlabel="votes", ylabel="majority is right")

    def say(data):
        return f"one vote is right with probability {data[2][0]:.2f}, the majority of {counts[-1]} with {data[2][-1]:.2f}"

    return Explorer(compute, draw, say, title="how likely is the right result, and how likely its rival?", right=list(right),
                    rival=list(rival), start={"right": right[0], "rival": rival[-1]},
                    alt="Line plots at three settings: how often the majority is right against the number of votes. It rises where "
                        "the right result is more likely than its rival, and falls where it is not.")


def best_of(curves: dict, ns: list, groups: dict, *, title="choose n, and who chooses", most=3.0) -> Explorer:
    """Move n, and choose the score that selects: what the best of n is worth in each group of prompts.

    curves {who selects: (P, len(ns))}, as `best_of_n.curve` gives them; groups {name: (P,) bool}; ns begins with 1, which is
    one answer drawn blindly. `most`: the largest true reward there is.
    """
    means = {who: {name: values[here].mean(0).tolist() for name, here in groups.items()} for who, values in curves.items()}
    if wrong := [who for who, values in curves.items() if values.shape[1] != len(ns)]:
        raise ValueError(f"{wrong[0]!r} has {curves[wrong[0]].shape[1]} columns for {len(ns)} values of n; give one for each")

    def compute(n, by):
        at = ns.index(n)
        return {"n": n, "by": by, "worth": {name: values[at] for name, values in means[by].items()},
                "blind": {name: values[0] for name, values in means[by].items()}}

    def draw(data, ax):
        rows = range(len(groups))[::-1]
        ax.barh(rows, list(data["worth"].values()), color=BLUE, height=0.55)
        ax.plot(list(data["blind"].values()), rows, "|", color=GREY, markersize=20, markeredgewidth=2.5)
        for y, v in zip(rows, data["worth"].values(), strict=True):
            ax.text(max(v, 0) + 0.05, y, number(v), va="center", color=BLACK)
        ax.set(xlim=(min(0, *data["worth"].values(), *data["blind"].values()), 1.15 * most),
               xlabel="true reward (grey mark: one answer)")
        ax.set_yticks(rows, list(groups))
        ax.set_title(f"best of {data['n']} by {data['by']}", fontsize=12)

    return Explorer(compute, draw, title=title, size=(6.2, 1.1 + 0.42 * len(groups)), n=list(ns), by=list(curves),
                    start={"n": ns[len(ns) // 2], "by": list(curves)[-2 if len(curves) > 1 else -1]},
                    alt=f"Bars of the true reward of the best of n at three settings of n and of who selects, for "
                    f"{', '.join(groups)}: {', '.join(curves)}")
