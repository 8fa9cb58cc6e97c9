"""The picture of `make bench-rollback`: what clients saw, per 100 ms, one strip per proxy.  Pure."""

from html import escape

WIDTH, LEFT, RIGHT, TOP, STRIP, GAP, BOTTOM = 1000, 170, 24, 78, 80, 16, 44
# failures: of Okabe and Ito's, told apart by color-blind people too
GET, POST, GREEN, INK, SOFT = "#d55e00", "#0072b2", "#bfe0d2", "#222222", "#6b6b6b"
FONT = "font-family='system-ui,Segoe UI,Helvetica,Arial,sans-serif'"


def text(x, y, words, size=13, anchor="start", color=INK, weight="normal"):
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' "
        f"fill='{color}' font-weight='{weight}'>{escape(words)}</text>"
    )


def box(x, y, width, height, color):
    return f"<rect x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height:.1f}' fill='{color}'/>"


def strip(line, y, top, most):
    """One proxy's: green's requests behind, failures before."""
    n = len(line["get"])
    step = (WIDTH - LEFT - RIGHT) / n
    floor = y + STRIP
    out = [f"<line x1='{LEFT}' y1='{floor}' x2='{WIDTH - RIGHT}' y2='{floor}' stroke='{SOFT}'/>"]

    def bar(i, low, high, color):
        """From so many to so many; what is more than the picture is high is cut."""
        low, high = min(low, most), min(high, most)
        if high > low:
            y_high = floor - STRIP * high / most
            height = STRIP * (high - low) / most
            out.append(box(LEFT + i * step, y_high, max(step - 0.6, 0.8), height, color))

    for i in range(n):
        get, post = line["get"][i], line["post"][i]
        bar(i, 0, line["green"][i], GREEN)
        bar(i, 0, get, GET)
        bar(i, get, get + post, POST)
    for value in (0, most):
        at = floor - STRIP * value / most
        out.append(text(LEFT - 6, at + 4, str(value), 10, "end", SOFT))
    failures = sum(line["get"]) + sum(line["post"])
    out.append(text(10, y + STRIP / 2 - 4, top, 14, weight="bold"))
    out.append(text(10, y + STRIP / 2 + 15, f"{failures:,} failed", 13, color=SOFT))
    return out


def chart(timelines, titles, before_s, after_s, title):
    """timelines: name -> rollback_count.timeline(); an SVG document."""
    lines = list(timelines.items())
    most = max([1] + [g + p for _, t in lines for g, p in zip(t["get"], t["post"])])
    most = max(most, *(max(t["green"], default=0) for _, t in lines), 1) if lines else 1
    height = TOP + len(lines) * (STRIP + GAP) + BOTTOM
    out = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' "
        f"width='{WIDTH}' height='{height}' {FONT}>",
        box(0, 0, WIDTH, height, "#ffffff"),
        text(10, 26, title, 17, weight="bold"),
    ]
    x = 10
    for color, words in (
        (GET, "failed GETs"),
        (POST, "failed POSTs"),
        (GREEN, "requests that came to green"),
    ):
        out += [box(x, 43, 12, 12, color), text(x + 18, 54, words + " per 100 ms", 12, color=SOFT)]
        x += 40 + 6.6 * len(words + " per 100 ms")
    span, floor = before_s + after_s, height - BOTTOM - GAP

    def at(second):
        return LEFT + (WIDTH - LEFT - RIGHT) * (second + before_s) / span

    for n, (name, line) in enumerate(lines):
        out += strip(line, TOP + n * (STRIP + GAP), titles[name], most)
    out.append(
        f"<line x1='{at(0):.1f}' y1='{TOP - 8}' x2='{at(0):.1f}' y2='{floor}' "
        f"stroke='{INK}' stroke-dasharray='3,3'/>"
    )
    out.append(text(at(0) + 5, TOP - 2, "green begins to fail", 11, color=SOFT))
    every = 1 if span <= 12 else 2
    for second in range(-int(before_s), int(after_s) + 1):
        if second % every == 0:
            out.append(text(at(second), floor + 16, f"{second} s", 11, "middle", SOFT))
    return "\n".join(out) + "\n</svg>\n"
