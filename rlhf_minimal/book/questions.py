"""A prediction that the reader makes before the page shows what happens."""

from .output import FONT, LINE, SOFT, escape, identity, publish

_last: dict = {}  # the prediction that `settled` answers

# The page keeps the reader's pick itself, so that an exported page needs no kernel.
PICK = ("window.rlhfPicks=window.rlhfPicks||{};window.rlhfPicks[this.name]=this.value;"
        "document.querySelectorAll('[data-settles='+this.name+']').forEach(e=>{e.querySelector('.yours').textContent="
        "this.value===e.dataset.right?'You predicted this.':'You predicted ('+this.value+').'})")
RECALL = ("<script>(()=>{const p=(window.rlhfPicks||{})['%s'];if(p)document.querySelectorAll('[data-settles=%s]')"
          ".forEach(e=>{e.querySelector('.yours').textContent=p===e.dataset.right?'You predicted this.':"
          "'You predicted ('+p+').'})})()</script>")


def predict(question: str | None = None, /, **options: str) -> None:
    """Ask for a prediction: `predict("What falls first?", a="…", b="…")`. Nothing in it gives the answer away.

    Raises ValueError unless there are two to five options, named a, b, c, …
    """
    question = question or "Your prediction"
    if list(options) != list("abcde")[:len(options)] or len(options) < 2:
        raise ValueError(f"options {', '.join(options) or 'none'}: expected two to five, named a, b, c, …")
    name = identity(question, options)
    _last.update(name=name, options=options)
    rows = "".join(
        f"<label style='display:block;padding:8px 12px;margin:6px 0;border:1px solid {LINE};border-radius:8px;cursor:pointer'>"
        f"<input type='radio' name='{name}' value='{letter}' onchange=\"{PICK}\" style='margin-right:8px'>"
        f"<b>({letter})</b> {escape(text)}</label>" for letter, text in options.items())
    publish("\n".join([question, *(f"  ({letter}) {text}" for letter, text in options.items())]),
            f"<fieldset class='rlhf-predict' style='{FONT};border:0;padding:0;margin:10px 0;max-width:760px'>"
            f"<legend style='font-weight:700;padding:0;font-size:15px'>{escape(question)}</legend>{rows}</fieldset>")


def settled(letter: str, sentence: str) -> None:
    """Settle the last prediction, beside what the reader picked. ValueError where there is none, or no such option."""
    if letter not in _last.get("options", {}):
        raise ValueError(f"settled({letter!r}): the last predict(...) has options {', '.join(_last.get('options', {})) or 'none'}")
    name, head = _last["name"], f"The prediction settled: ({letter})"
    publish(f"{head} {sentence}",
            f"<div class='rlhf-settled' data-settles='{name}' data-right='{letter}' style='{FONT};border-left:4px solid #009E73;"
            f"background:{SOFT};padding:10px 14px;border-radius:4px;margin:12px 0;max-width:760px'><b>{head}.</b> "
            f"{escape(sentence)} <i class='yours' aria-live='polite'></i></div>{RECALL % (name, name)}")
