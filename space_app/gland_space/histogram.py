"""The histogram of confidence as an SVG that takes the page's colours, light or dark."""

import numpy as np

WIDTH, HEIGHT = 420, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 12, 38


def histogram_svg(shares: np.ndarray, lowest: float, threshold: float) -> str:
    """`shares` float [2, bins]: share of all pixels by confidence from `lowest` to 1, outside and inside glands."""
    bins = shares.shape[1]
    plot_w, plot_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    top_share = float(shares.sum(axis=0).max()) or 1.0
    step = plot_w / bins
    bars = []
    for index, (outside, inside) in enumerate(shares.T.tolist()):
        base = TOP + plot_h
        for share, kind in ((inside, "inside"), (outside, "outside")):
            height = plot_h * share / top_share
            if height > 0.05:
                base -= height
                bars.append(f'<rect class="gl-{kind}" x="{LEFT + index * step + 0.5:.1f}" y="{base:.1f}" '
                            f'width="{step - 1:.1f}" height="{height:.1f}"/>')
    x = LEFT + plot_w * (min(max(threshold, lowest), 1) - lowest) / (1 - lowest)
    ticks = "".join(
        f'<text x="{LEFT + plot_w * t:.1f}" y="{HEIGHT - 20}" text-anchor="middle">{100 * (lowest + t * (1 - lowest)):.0f}'
        "</text>" for t in np.linspace(0, 1, 6))
    below = float(shares.sum(axis=0)[np.linspace(lowest, 1, bins + 1)[1:] <= threshold + 1e-9].sum())
    text = (f"Histogram of the confidence of all pixels. About {100 * below:.0f} % of the pixels are below the unsure "
            f"threshold of {100 * threshold:.0f} %.")
    return (f'<svg class="gl-histogram" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text}">'
            f'<title>{text}</title>'
            f'<text x="{LEFT - 6}" y="{TOP + 9}" text-anchor="end">{100 * top_share:.0f} %</text>'
            f'<text x="{LEFT - 6}" y="{TOP + plot_h}" text-anchor="end">0 %</text>'
            f'<path class="gl-axis" d="M{LEFT} {TOP}V{TOP + plot_h}H{WIDTH - RIGHT}"/>{"".join(bars)}'
            f'<path class="gl-threshold" d="M{x:.1f} {TOP}V{TOP + plot_h}"/>{ticks}'
            f'<text x="{LEFT + plot_w / 2}" y="{HEIGHT - 4}" text-anchor="middle">confidence (%)</text></svg>')
