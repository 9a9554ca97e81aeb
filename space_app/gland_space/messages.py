"""What the page says: short, escaped pieces of HTML."""

from collections.abc import Iterable
from html import escape


def error(text: str) -> str:
    """A message that stays until the next step; read out at once by screen readers."""
    return f'<p class="gl-message gl-error" role="alert">{_sentence(text)}</p>'


def done(text: str, notes: Iterable[str] = ()) -> str:
    """What was done, and what the user should know about it."""
    lines = "".join(f'<p class="gl-message gl-note">{_sentence(note)}</p>' for note in notes)
    return f'<p class="gl-message" role="status">{_sentence(text)}</p>{lines}'


def progress(share: float | None, text: str) -> str:
    """A bar at `share` (0-1), or one that moves to and fro while that is unknown (None)."""
    if share is None:
        return (f'<div class="gl-message" role="status">{escape(text)}<div class="gl-progress gl-waiting" '
                f'role="progressbar" aria-label="{escape(text)}"><i></i></div></div>')
    percent = round(100 * min(max(share, 0.0), 1.0))
    return (f'<div class="gl-message" role="status">{escape(text)} {percent} %<div class="gl-progress" '
            f'role="progressbar" aria-label="{escape(text)}" aria-valuemin="0" aria-valuemax="100" '
            f'aria-valuenow="{percent}"><i style="width: {percent}%"></i></div></div>')


def _sentence(text: str) -> str:
    text = escape(text.strip())
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
