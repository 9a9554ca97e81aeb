"""The method in one drawing, as an SVG in the page's own colours: one for a wide page and one for a phone."""

_BOXES = (  # heading, line below, kind
    ("a few outlines", "255 = not labelled", ""),
    ("teacher", "average of past students", "gl-strong"),
    ("student", "learns at every step", "gl-strong"),
    ("pseudo-mask", "refined as it learns", ""),
)
_CAPTIONS = ("moving average", "where surer than τ(t)", "loss on labelled pixels alone", "truth always wins", "warm-up")
# A layout: size, width of a box, corners of the boxes, and for each arrow its path and its caption's place and anchor.
_WIDE = (
    (810, 235), 190, ((10, 95), (300, 20), (300, 170), (610, 95)), (
        ("M395 170V84", 404, 155, "start"),
        ("M490 50C600 50 700 60 704 91", 600, 40, "middle"),
        ("M705 155C705 195 600 200 494 200", 600, 222, "middle"),
        ("M200 125H606", 215, 117, "start"),
        ("M105 155C105 195 200 200 296 200", 190, 222, "middle"),
    ))
_NARROW = (
    (470, 370), 182, ((144, 10), (144, 300), (43, 150), (245, 150)), (
        ("M115 210C115 250 145 270 169 296", 108, 262, "end"),
        ("M301 300C325 270 355 250 355 214", 343, 284, "start"),
        ("M297 210C297 232 173 232 173 214", 235, 246, "middle"),
        ("M280 70C305 100 330 115 335 146", 331, 112, "start"),
        ("M190 70C165 100 140 115 135 146", 139, 112, "end"),
    ))
TEXT = ("A student network learns from a few outlined glands. A teacher, the moving average of the student, labels what it "
        "is sure of; outlined pixels always keep their own label. The threshold of confidence falls as training goes on, so "
        "that the pseudo-masks grow.")


def method_svg() -> str:
    """Four boxes and the arrows between them, twice: the stylesheet shows the one that fits. `TEXT` says the same."""
    return _drawing(_WIDE, "gl-method") + _drawing(_NARROW, "gl-method gl-narrow")


def _drawing(layout: tuple, kind: str) -> str:
    (width, height), box_width, corners, paths = layout
    tip = f"tip-{width}"
    boxes = "".join(
        f'<rect class="{style}" x="{x}" y="{y}" width="{box_width}" height="60" rx="9"/>'
        f'<text x="{x + box_width / 2:g}" y="{y + 27}" text-anchor="middle" font-weight="600">{head}</text>'
        f'<text class="gl-small" x="{x + box_width / 2:g}" y="{y + 46}" text-anchor="middle">{below}</text>'
        for (x, y), (head, below, style) in zip(corners, _BOXES, strict=True))
    arrows = "".join(
        f'<path d="{path}" marker-end="url(#{tip})"/>'
        f'<text class="gl-small" x="{x}" y="{y}" text-anchor="{anchor}">{caption}</text>'
        for (path, x, y, anchor), caption in zip(paths, _CAPTIONS, strict=True))
    return (f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{TEXT}"><title>The method</title>'
            f'<defs><marker id="{tip}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            f'<path d="M0 0L8 4L0 8z"/></marker></defs>{boxes}{arrows}</svg>')
