"""One self-contained HTML page of text and figures, readable in light and dark, wide and narrow."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

STYLE = """
:root { color-scheme: light dark; --ink: #1d1f24; --soft: #5c626e; --page: #fbfaf8;
  --rule: #dedad3; --accent: #0a5fa8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7e5e1; --soft: #a2a6af; --page: #17181b; --rule: #36383e; --accent: #7ab8ef; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 58rem; background: var(--page);
  color: var(--ink); font: 1.0625rem/1.6 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -.015em; margin: 0 0 .75rem; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 3.25rem 0 .5rem; padding-top: 1.25rem;
  border-top: 1px solid var(--rule); }
p, ul { max-width: 42rem; margin: .6rem 0; }
.lead { font-size: 1.175rem; color: var(--soft); }
.numbers { display: flex; flex-wrap: wrap; gap: .75rem 3.5rem; margin: 1.75rem 0; }
.numbers div { min-width: 11rem; }
.numbers b { display: block; font-size: 2.4rem; line-height: 1.15; letter-spacing: -.02em;
  color: var(--accent); font-variant-numeric: tabular-nums; }
.numbers span { color: var(--soft); font-size: .95rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-size: .95rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem 1.5rem .35rem 0;
  border-bottom: 1px solid var(--rule); }
th { font-weight: 600; white-space: nowrap; }
.figures { display: flex; flex-wrap: wrap; gap: 1.25rem; margin: 1.25rem 0; }
figure { margin: 0; flex: 1 1 20rem; max-width: 28rem; min-width: 0; }
figure img { display: block; width: 100%; height: auto; background: #fff; border-radius: 6px;
  border: 1px solid var(--rule); }
@media (prefers-color-scheme: dark) { figure img { filter: brightness(.88); border: 0; } }
figcaption { color: var(--soft); font-size: .9rem; line-height: 1.45; margin-top: .45rem; }
footer { color: var(--soft); font-size: .875rem; margin-top: 3.5rem; padding-top: 1rem;
  border-top: 1px solid var(--rule); }
@media print { h2, figure { break-inside: avoid; } }
"""


class Picture(NamedTuple):
    """A figure in the page: its PNG, what it shows in words, and the line under it."""

    png: bytes
    alt: str
    caption: str


class Section(NamedTuple):
    """A heading, and text before and after the pictures; blank lines part its paragraphs."""

    title: str
    before: str
    pictures: Sequence[Picture]
    after: str


def png(figure: Any, path: Any) -> bytes:
    """Writes a figure to a file and returns what was written."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def page(
    title: str,
    lead: str,
    numbers: Sequence[tuple[str, str]],
    facts: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    footer: str,
) -> str:
    """The page; nothing in it is fetched from anywhere.

    Args:
      title, lead, footer: plain text.
      numbers: the results, as (large number, words under it).
      facts: a table of (name, value).
      sections: the body, in order.
    """
    large = "".join(f"<div><b>{_t(n)}</b><span>{_t(words)}</span></div>" for n, words in numbers)
    table = "".join(f"<tr><th>{_t(name)}</th><td>{_t(value)}</td></tr>" for name, value in facts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_t(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{_t(title)}</h1>
<p class="lead">{_t(lead)}</p>
<div class="numbers">{large}</div>
<div class="scroll"><table>{table}</table></div>
</header>
<main>
{"".join(map(_section, sections))}</main>
<footer>{_t(footer)}</footer>
</body>
</html>
"""


def _section(section: Section) -> str:
    pictures = "".join(
        f'<figure><img alt="{_t(alt)}" src="data:image/png;base64,'
        f'{base64.b64encode(png).decode()}"><figcaption>{_t(caption)}</figcaption></figure>\n'
        for png, alt, caption in section.pictures
    )
    body = f'{_paragraphs(section.before)}<div class="figures">\n{pictures}</div>\n'
    body += _paragraphs(section.after)
    return f"<section>\n<h2>{_t(section.title)}</h2>\n{body}</section>\n"


def _paragraphs(text: str) -> str:
    blocks = (" ".join(block.split()) for block in text.split("\n\n"))
    return "".join(f"<p>{_t(block)}</p>\n" for block in blocks if block)


_t = html.escape
