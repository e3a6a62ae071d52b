"""Pictures of the village green: reward maps, walks on them, and an explorer in which the reader is the rater."""

import json

import torch
from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor

from ..village import grid
from .output import FONT, LINE, escape, identity, publish, show
from .plots import BLACK, GREY, plt, short

LOW, MIDDLE, HIGH = (140, 81, 10), (246, 246, 244), (1, 102, 94)  # brown: bad, green: good; also told apart without colour vision
COLOURS = LinearSegmentedColormap.from_list("green", [tuple(v / 255 for v in c) for c in (LOW, MIDDLE, HIGH)])
WIDTH = 1.6  # of the prior, in cells: how far a click on one cell tells something about its neighbours


def heat_maps(maps: dict, *, title: str, walks: dict | None = None, note: str = "", alt: str = ""):
    """Reward maps {name: (N,)}, two in a row, each on its own scale from −max to +max; walks {name: [(T,) cells]} on them.

    Two in a row, so that cells and names can be told apart on a phone.
    """
    n, rows = len(maps), (len(maps) + 1) // 2
    fig, axes = plt.subplots(rows, 2, figsize=(5.6, 0.7 + 2.65 * rows), layout="constrained", squeeze=False)
    for ax in axes.flat[n:]:
        ax.set_visible(False)
    for ax, (name, values) in zip(axes.flat, maps.items(), strict=False):
        side = round(len(values) ** 0.5)
        top = max(values.abs().max().item(), 1e-9)
        ax.imshow(values.view(side, side), cmap=COLOURS, vmin=-top, vmax=top)
        for walk in (walks or {}).get(name, []):
            draw_walk(ax, walk, side)
        ax.set_title(name, fontsize=11.5, fontweight="normal", color="#444b57")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    if note:
        fig.supxlabel(note, fontsize=10.5, color=GREY)
    fig.alt = alt or short(f"{n} heat maps of an 8 by 8 grid: {', '.join(maps)}. {title}.")
    return fig


def draw_walk(ax, walk: Tensor, side: int) -> None:
    """A walk as a line over its cells, a ring at its first cell and an arrow head at its last move."""
    x, y = (walk % side).tolist(), (walk // side).tolist()
    ax.plot(x, y, color=BLACK, linewidth=1.4)
    ax.plot(x[0], y[0], "o", color="white", markeredgecolor=BLACK, markersize=6)
    ax.plot(x[-1], y[-1], "s", color=BLACK, markersize=5)


def few_clicks(pairs: list, choices: list[float]) -> Tensor:
    """The reward map after some choices between two walks, with neighbouring cells alike: -> (64,), all 0 before the first.

    pairs: [(walk, walk)] of (T,) cells, choices: 1 where the first was chosen, else 0. The most probable map under a normal
    prior whose correlation falls with distance (`WIDTH` cells) and Bradley and Terry's model of the choice.
    """
    gram, spread = _kernel(pairs)
    k = len(choices)
    weight = torch.zeros(k, dtype=torch.float64)
    sign = 2 * torch.tensor(choices, dtype=torch.float64) - 1
    for _ in range(200):  # one weight after another, by Newton: the problem is convex
        for i in range(k):
            wrong = torch.sigmoid(-sign[i] * (gram[i, :k] @ weight))
            weight[i] += (sign[i] * wrong - weight[i]) / (1 + gram[i, i] * wrong * (1 - wrong))
    return spread[:, :k] @ weight


def _kernel(pairs) -> tuple[Tensor, Tensor]:
    """(K, K) covariances between the pairs' differences of reward, and (64, K) of every cell with them."""
    cell = torch.arange(grid.SIZE ** 2)
    at = torch.stack([cell // grid.SIZE, cell % grid.SIZE], 1).double()
    prior = torch.exp(-torch.cdist(at, at).square() / (2 * WIDTH ** 2))
    walks = torch.stack([torch.stack(pair) for pair in pairs])
    difference = grid.visits(walks[:, 0]) - grid.visits(walks[:, 1])
    return difference @ prior @ difference.T, prior @ difference.T


def ten_pairs(seed: int = 0, n: int = 10, steps: int = 7) -> list:
    """Pairs of walks for the explorer, both of a pair far apart, and straight enough to be read."""
    dice = torch.Generator().manual_seed(seed)
    pairs, even = [], torch.full((grid.SIZE ** 2, 4), 0.25)
    while len(pairs) < n:
        a, b = grid.walks(even, 2, steps, dice)
        far = (grid.visits(torch.stack([a, b])) > 0).double()
        if min(len(set(a.tolist())), len(set(b.tolist()))) >= steps - 1 and (far[0] * far[1]).sum() == 0:
            pairs.append((a, b))
    return pairs


def rater(true: Tensor, *, seed: int = 0, temperature: float = 1.0, title="you are the rater") -> None:
    """Publish the explorer: two walks, two buttons, ten clicks, and the reward map that the clicks make.

    The page computes the map itself, as `few_clicks` does, so no kernel is needed. Above it stands a still picture: the map
    after 1, 4 and 10 clicks of a scripted rater, who reads the true reward.
    """
    pairs = ten_pairs(seed)
    felt = [[grid.visits(w[None])[0] @ true for w in pair] for pair in pairs]
    dice = torch.Generator().manual_seed(seed)
    clicks = [float(grid.prefer(a[None], b[None], dice, temperature=temperature)) for a, b in felt]
    stages = {f"after {k} click{'s' * (k > 1)}": few_clicks(pairs, clicks[:k]) for k in (1, 4, 10)}
    fig = heat_maps(stages | {"true reward": true}, title="A scripted rater clicks ten times",
                    alt="Four heat maps of an 8 by 8 grid: the reward map after 1, 4 and 10 choices of a scripted rater, and the "
                        "true reward map")
    show(fig, role="still")
    publish(f"Explorer: {title}\nTwo walks, two buttons, ten clicks; the map shows which cells your choices call good.",
            page(pairs, clicks, true, title))


def page(pairs: list, clicks: list[float], true: Tensor, title: str) -> str:
    """The explorer as HTML with its own script; nothing is loaded."""
    gram, spread = _kernel(pairs)
    name = identity(title, clicks)
    data = {"walks": [[w.tolist() for w in pair] for pair in pairs], "gram": [[round(v, 6) for v in row] for row in gram.tolist()],
            "spread": [[round(v, 6) for v in row] for row in spread.tolist()], "clicks": clicks,
            "true": [round(v, 4) for v in true.tolist()]}
    button = f"style='font:inherit;padding:6px 14px;border:1px solid {LINE};border-radius:8px;cursor:pointer;margin:2px 6px 2px 0'"
    boards = "".join(f"<figure style='margin:0;flex:1 1 150px;max-width:210px'><figcaption>{text}</figcaption>"
                     f"<svg class='{key}' viewBox='0 0 80 80' role='img' aria-label='{text}' style='width:100%'></svg></figure>"
                     for key, text in (("a", "walk A"), ("b", "walk B"), ("map", "your reward map")))
    script = _SCRIPT.replace("NAME", name).replace("DATA", json.dumps(data)).replace("SIDE", str(grid.SIZE))
    for key, colour in (("LOW", LOW), ("MIDDLE", MIDDLE), ("HIGH", HIGH)):
        script = script.replace(key, json.dumps(colour))
    return (f"<div class='rlhf-explorer' id='{name}' role='group' aria-label='{escape(title)}' "
            f"style='{FONT};border:1px solid {LINE};border-radius:10px;"
            f"padding:12px 16px;margin:12px 0;max-width:860px;box-sizing:border-box'>"
            f"<div style='font-weight:700'>Try it: {escape(title)}</div>"
            f"<p style='margin:6px 0'>Choose a secret taste, such as “the right edge is lovely”, and answer by it. ○ is where a "
            f"walk begins, ■ where it ends.</p><div style='display:flex;flex-wrap:wrap;gap:10px 18px'>{boards}</div>"
            f"<div style='margin-top:8px'><button class='one' {button}>I prefer A</button><button class='two' {button}>I prefer B"
            f"</button><button class='auto' {button}>let the scripted rater click</button>"
            f"<button class='again' {button}>start again</button></div>"
            f"<div class='words' aria-live='polite' style='min-height:1.6em'></div></div><script>{script}</script>")


_SCRIPT = """(()=>{const d=DATA,box=document.getElementById('NAME'),S=SIDE,lo=LOW,mid=MIDDLE,hi=HIGH;let c=[];
const q=s=>box.querySelector(s),sig=x=>1/(1+Math.exp(-x));
const map=()=>{const k=c.length,w=Array(k).fill(0),s=c.map(v=>2*v-1);
for(let n=0;n<200;n++)for(let i=0;i<k;i++){let f=0;for(let j=0;j<k;j++)f+=d.gram[i][j]*w[j];
const p=sig(-s[i]*f);w[i]+=(s[i]*p-w[i])/(1+d.gram[i][i]*p*(1-p))}
return d.spread.map(r=>{let t=0;for(let j=0;j<k;j++)t+=r[j]*w[j];return t})};
const colour=v=>{const e=v<0?lo:hi,t=Math.min(1,Math.abs(v));return 'rgb('+mid.map((m,i)=>Math.round(m+(e[i]-m)*t))+')'};
const cells=f=>{let t='';for(let i=0;i<S*S;i++)t+=`<rect x="${i%S*10}" y="${Math.floor(i/S)*10}" width="10" height="10" `+
`stroke="#c9ced6" stroke-width=".4" fill="${f(i)}"/>`;return t};
const walk=w=>{const p=w.map(i=>[i%S*10+5,Math.floor(i/S)*10+5]),z=p[p.length-1];return cells(()=>'#fff')+
`<polyline points="${p.join(' ')}" fill="none" stroke="#0072B2" stroke-width="1.8"/>`+
`<circle cx="${p[0][0]}" cy="${p[0][1]}" r="2.6" fill="#fff" stroke="#0072B2"/>`+
`<rect x="${z[0]-2.4}" y="${z[1]-2.4}" width="4.8" height="4.8" fill="#0072B2"/>`};
const draw=()=>{const n=d.walks.length,k=c.length,r=map(),top=Math.max(...r.map(Math.abs),1e-9),done=k>=n;
q('.map').innerHTML=cells(i=>colour(r[i]/top));const pair=d.walks[Math.min(k,n-1)];
q('.a').innerHTML=walk(pair[0]);q('.b').innerHTML=walk(pair[1]);
for(const b of ['.one','.two','.auto'])q(b).disabled=done;
q('.words').textContent=done?'Ten clicks: green is what your choices call good, brown what they call bad. '+
'Does it show your taste?':
k+' of '+n+' clicks'+(k?'; green is what your choices call good so far.':'. The map is empty: nothing is known yet.')};
const click=v=>{if(c.length<d.walks.length){c.push(v);draw()}};
q('.one').onclick=()=>click(1);q('.two').onclick=()=>click(0);q('.auto').onclick=()=>click(d.clicks[c.length]);
q('.again').onclick=()=>{c=[];draw()};box.rlhf={map,click,choices:()=>c};draw()})()"""
