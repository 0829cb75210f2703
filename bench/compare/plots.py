"""Bars as SVG, by hand: no library has to be installed to draw a dozen rectangles."""

import math
from html import escape

from .sections import APART, BARE_ON_ALL, CEILING_ON_ALL, CONTESTANTS, DRF, OURS, OURS_AT_12, POCKETBASE, SHARED
from .servers.limits import Bare, Constant

COLOURS = {
    "authtokens": "#b5442e",
    "PocketBase": "#3b6ea5",
    "DRF authtoken": "#4f8a5b",
    "DRF knox": "#8fb996",
    Bare.name: "#888888",
    BARE_ON_ALL: "#999999",
    Constant.name: "#bbbbbb",
    CEILING_ON_ALL: "#cccccc",
}
WIDTH, BAR, GAP, LEFT, RIGHT = 760, 17, 14, 210, 90


def bars(title, unit, groups):
    """Horizontal bars on a logarithmic scale. `groups` is a list of (name, [(server, value)])."""
    groups = [(name, [(server, value) for server, value in rows if value]) for name, rows in groups]
    groups = [(name, rows) for name, rows in groups if rows]
    if not groups:
        return None
    values = [value for _, rows in groups for _, value in rows]
    low = math.floor(math.log10(min(values)) - 0.05)
    high = math.ceil(math.log10(max(values)) + 0.05)

    def position(value):
        return LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    body, y = [], 58
    for name, rows in groups:
        body.append(f'<text x="14" y="{y + 12}" font-weight="bold">{escape(name)}</text>')
        y += BAR + 3
        for server, value in rows:
            colour = COLOURS.get(server.removesuffix(" at cost 12"), "#777777")
            body.append(f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(server)}</text>')
            body.append(
                f'<rect x="{LEFT}" y="{y}" width="{position(value) - LEFT:.1f}" height="{BAR - 3}" fill="{colour}"/>'
            )
            body.append(f'<text x="{position(value) + 5:.1f}" y="{y + 12}">{readable(value)}</text>')
            y += BAR
        y += GAP
    lines = []
    for power in range(low, high + 1):
        x = position(10.0**power)
        lines.append(f'<line x1="{x:.1f}" y1="50" x2="{x:.1f}" y2="{y - GAP}" stroke="#dddddd"/>')
        lines.append(f'<text x="{x:.1f}" y="46" text-anchor="middle" fill="#777777">{readable(10.0**power)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
        f'font-family="sans-serif" font-size="12" fill="#222222" role="img">\n<title>{escape(title)}</title>\n'
        f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>\n'
        f'<text x="14" y="22" font-size="15" font-weight="bold">{escape(title)}</text>\n'
        f'<text x="{WIDTH - 14}" y="22" text-anchor="end" fill="#777777">{escape(unit)}, logarithmic</text>\n'
        + "\n".join(lines + body)
        + "\n</svg>\n"
    )


def readable(value):
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def draw(record, folder):
    """Draws what the run has; the names and titles of the drawings."""
    few, users, most = record.about["users"]
    names = [server.name for server in CONTESTANTS]

    def rates(section, servers, **same):
        return [(name, record.median(section, server=name, **same)) for name in servers]

    def flood(work):
        return [
            (server.name, record.median("floods", "p99", work=work, server=server.name))
            for server in (OURS_AT_12, Bare, POCKETBASE, DRF)
        ]

    limits = [OURS.name, Bare.name, BARE_ON_ALL, Constant.name, CEILING_ON_ALL]
    drawings = {
        "token-checks.svg": bars(
            f"Token checks, {users:,} users",
            "a second",
            [
                (
                    f"{connections} connection{'s' if connections > 1 else ''}",
                    rates("token checks", names, users=users, connections=connections),
                )
                for connections in (1, 32, 256)
            ],
        ),
        "framework.svg": bars(
            f"Token checks against the framework, {users:,} users, 32 connections",
            "a second",
            [(work, rates("framework", limits, work=work, connections=32)) for work in (APART, SHARED)],
        ),
        "users.svg": bars(
            "Token checks by the number of users, 32 connections",
            "a second",
            [
                (f"{count:,} users", rates("token checks", names, users=count, connections=32))
                for count in (few, users, most)
            ],
        ),
        "changes.svg": bars(
            f"Changes, {users:,} users, 32 connections",
            "a second",
            [
                (title, rates(section, names, connections=32))
                for title, section in (
                    ("Logins, cost 10", "logins"),
                    ("Registrations, cost 10", "registrations"),
                    ("Additions to a list", "cellar"),
                    ("Logouts", "logouts"),
                )
            ],
        ),
        "flood.svg": bars(
            "How long a token check waits, 99th percentile",
            "milliseconds",
            [
                ("nobody logs in", flood("token checks, quiet")),
                ("32 clients log in without pause", flood("token checks, flooded")),
            ],
        ),
        "resources.svg": bars(
            "Start and memory",
            "milliseconds and MiB",
            [
                (
                    "Start to first answer, no user",
                    [(name, record.median_value("starts", "0 users", name)) for name in names],
                ),
                (
                    f"Start to first answer, {most:,} users",
                    [(name, record.median_value("starts", f"{most:,} users", name)) for name in names],
                ),
                ("Memory when idle", [(name, record.median_value("memory", "idle, rss", name)) for name in names]),
                (
                    "Memory after the token checks",
                    [(name, record.median_value("memory", "after the token checks, rss", name)) for name in names],
                ),
            ],
        ),
    }
    drawn = []
    for name, drawing in drawings.items():
        path = folder / name
        if drawing is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(drawing)
            drawn.append((name, drawing.split("<title>")[1].split("</title>")[0]))
    return drawn
