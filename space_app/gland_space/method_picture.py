"""The method in one drawing, as an SVG in the page's own colours."""

_BOXES = (  # x, y, heading, line below, kind
    (10, 95, "a few outlines", "255 = not labelled", ""),
    (300, 20, "teacher", "average of past students", "gl-strong"),
    (300, 170, "student", "learns at every step", "gl-strong"),
    (610, 95, "pseudo-mask", "refined as it learns", ""),
)
_ARROWS = (  # path, caption, its place and anchor
    ("M395 170V84", "moving average", 404, 155, "start"),
    ("M490 50C600 50 700 60 704 91", "where it is surer than τ(t)", 600, 40, "middle"),
    ("M705 155C705 195 600 200 494 200", "loss on labelled pixels alone", 600, 222, "middle"),
    ("M200 125H606", "truth always wins", 215, 117, "start"),
    ("M105 155C105 195 200 200 296 200", "warm-up", 190, 222, "middle"),
)
TEXT = ("A student network learns from a few outlined glands. A teacher, the moving average of the student, labels what it "
        "is sure of; outlined pixels always keep their own label. The threshold of confidence falls as training goes on, so "
        "that the pseudo-masks grow.")


def method_svg() -> str:
    """Four boxes and the arrows between them; `TEXT` says the same to those who cannot see it."""
    boxes = "".join(
        f'<rect class="{kind}" x="{x}" y="{y}" width="190" height="60" rx="9"/>'
        f'<text x="{x + 95}" y="{y + 27}" text-anchor="middle" font-weight="600">{head}</text>'
        f'<text class="gl-small" x="{x + 95}" y="{y + 46}" text-anchor="middle">{below}</text>'
        for x, y, head, below, kind in _BOXES)
    arrows = "".join(
        f'<path d="{path}" marker-end="url(#gl-tip)"/>'
        f'<text class="gl-small" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'
        for path, text, x, y, anchor in _ARROWS)
    return (f'<svg class="gl-method" viewBox="0 0 810 235" role="img" aria-label="{TEXT}"><title>The method</title>'
            '<defs><marker id="gl-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            f'<path d="M0 0L8 4L0 8z"/></marker></defs>{boxes}{arrows}</svg>')
