"""Two kinds of charts as SVG text: groups of bars, and lines. Nothing of it is measured here."""

from xml.sax.saxutils import escape

# Okabe and Ito: told apart by color-blind people, too
HALO = 'paint-order="stroke" stroke="#fff" stroke-width="3"'  # readable across bars and rules
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
WIDTH, LEFT, RIGHT, TOP = 1080, 56, 16, 64
FONT = 'font-family="sans-serif" fill="#222"'


def text(x, y, what, size=12, anchor="start", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" {FONT} {more}>{escape(str(what))}</text>'


def nice(top):
    """A round number not below top, and a step that divides it into four or five."""
    if top <= 0:
        return 1.0, 0.25
    scale = 1.0
    while scale * 10 <= top:
        scale *= 10
    while scale > top:
        scale /= 10
    for round_one, step in ((1, 0.25), (1.25, 0.25), (1.5, 0.5), (2, 0.5), (2.5, 0.5), (4, 1), (5, 1), (8, 2), (10, 2)):
        if top <= round_one * scale * 1.000001:
            return round_one * scale, step * scale
    return 10 * scale, 2 * scale


def frame(title, names, height, body):
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
           f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>', text(LEFT, 24, title, 16)]
    x = LEFT
    for i, name in enumerate(names):
        out.append(f'<rect x="{x}" y="36" width="12" height="12" fill="{COLORS[i % len(COLORS)]}"/>')
        out.append(text(x + 17, 47, name))
        x += 17 + 8 * len(name) + 22
    return "\n".join(out + body + ["</svg>", ""])


def axis(top, step, height):
    """The grid, and a function from values to y."""
    y = lambda v: TOP + height * (1 - v / top)
    out, v = [], 0.0
    while v <= top * 1.000001:
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#ddd"/>')
        out.append(text(LEFT - 6, y(v) + 4, f"{v:g}", 11, "end"))
        v += step
    return out, y


def rule(y, v):
    return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#222" stroke-dasharray="4 3"/>'


def bars(title, groups, values, labels, line=None, height=280):
    """values[name][group] (None: no bar), labels alike; line: a dashed line at this value. Bars that would dwarf the rest are cut."""
    known = sorted(v for row in values.values() for v in row if v is not None)
    typical = known[len(known) // 2] if known else 1
    top, step = nice(min(known[-1], 6 * typical) * 1.08 if known else 1)
    out, y = axis(top, step, height)
    if line is not None:
        out.append(rule(y, line))
    wide = (WIDTH - LEFT - RIGHT) / max(1, len(groups))
    bar = wide * 0.84 / max(1, len(values))
    for g, group in enumerate(groups):
        x = LEFT + g * wide + wide * 0.08
        for i, name in enumerate(values):
            v = values[name][g]
            if v is not None:
                high = min(v, top)
                out.append(f'<rect x="{x:.1f}" y="{y(high):.1f}" width="{max(1, bar - 1):.1f}" height="{TOP + height - y(high):.1f}" '
                           f'fill="{COLORS[i % len(COLORS)]}"><title>{escape(f"{group}, {name}: {labels[name][g]}")}</title></rect>')
                cx, cy = x + bar / 2 + 3, y(high) - 4
                out.append(text(cx, cy, labels[name][g], 9, "start", f'{HALO} transform="rotate(-90 {cx:.1f} {cy:.1f})"'))
            x += bar
        cx, cy = LEFT + (g + 0.5) * wide, TOP + height + 16
        slanted = len(groups) > 6
        out.append(text(cx, cy, group, 12, "end" if slanted else "middle", f'transform="rotate(-25 {cx:.1f} {cy:.1f})"' if slanted else ""))
    return frame(title, list(values), TOP + height + 64, out)


def lines(title, series, line=None, height=240):
    """series[name]: [(label, value)]; the points of each are spread over the whole width and say their labels."""
    top, step = nice(max(v for points in series.values() for _, v in points) * 1.1)
    top = max(top, (line or 0) * 1.05)
    out, y = axis(top, step, height)
    for i, points in enumerate(series.values()):
        color = COLORS[i % len(COLORS)]
        room = (WIDTH - LEFT - RIGHT - 60) / max(1, len(points) - 1)
        at = [(LEFT + 20 + k * room, y(v)) for k, (_, v) in enumerate(points)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in at)
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        for (px, py), (label, v) in zip(at, points):
            out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{color}"><title>{escape(f"{label}: {v:.2f}")}</title></circle>')
            out.append(text(px, py - 7, label, 10, "middle", HALO))
    if line is not None:
        out.append(rule(y, line))
    return frame(title, list(series), TOP + height + 24, out)
