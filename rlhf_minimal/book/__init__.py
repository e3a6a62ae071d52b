"""For notebooks only: begin, claim, show, recorded, plots, exercises."""

from .exercises import check
from .notebook import available, begin, claim, every, recorded, show, show_source, shows_error

__all__ = ["available", "begin", "check", "claim", "every", "recorded", "show", "show_source", "shows_error"]
