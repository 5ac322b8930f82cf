"""Parts of a self-contained HTML page: tables, pictures, sections. All text is escaped here."""

import base64
import io
import re
from html import escape

import pandas as pd

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; max-width: 62rem;
  padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
h3 { font-size: 1rem; margin-bottom: 0.3rem; overflow-wrap: anywhere; }
p { max-width: 46rem; overflow-wrap: anywhere; }
nav a { display: inline-block; margin-right: 1rem; padding: 0.2rem 0; }
a { color: #005a8f; }
.scroll { overflow-x: auto; margin: 0.8rem 0; background:
  linear-gradient(to right, #fff 40%, transparent) left / 3rem 100% local no-repeat,
  linear-gradient(to left, #fff 40%, transparent) right / 3rem 100% local no-repeat,
  linear-gradient(to right, #0005, transparent) left / 0.9rem 100% scroll no-repeat,
  linear-gradient(to left, #0005, transparent) right / 0.9rem 100% scroll no-repeat; }
.scroll img { display: block; height: auto; max-width: 100%; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ddd; padding: 0.25rem 0.7rem; text-align: right; vertical-align: top; }
td, thead th { white-space: nowrap; }
thead th { border-bottom: 2px solid #888; }
.hint { display: none; margin: 0.8rem 0 -0.5rem; font-size: 0.85rem; color: #555; }
ul { max-width: 46rem; padding-left: 1.2rem; overflow-wrap: anywhere; }
li { margin: 0.3rem 0; }
tbody th { font-weight: normal; position: sticky; left: 0; background: #fff; min-width: 6rem; }
th:first-child { padding-left: 0; }
th:first-child, table.text th, table.text td { text-align: left; }
table.text td { white-space: normal; min-width: 3rem; }
table.text td:last-child { overflow-wrap: anywhere; min-width: 14rem; }
footer { margin-top: 2.5rem; border-top: 1px solid #ccc; font-size: 0.9rem; color: #555; }
@media (max-width: 40rem) {
  tbody th { max-width: 9rem; overflow-wrap: anywhere; }
  .scroll img.wide { max-width: none; }
  .hint { display: block; }
}
@media print { .scroll { background: none; } .hint { display: none; } .scroll img.wide { max-width: 100%; } }
"""

# If a table is wider than the screen, a shadow marks the side where it continues. A picture would cover the shadow, so
# a hint above a wide picture says so on a small screen.
HINT = '<p class="hint">This figure is wider than the screen: scroll sideways.</p>'

# No picture, style or script from elsewhere is loaded, whatever a name in the page contains.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


# In pixels; wider pictures scroll on a phone, so that their text stays legible.
SMALL_PICTURE = 520


def paragraph(text):
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def heading(text):
    """Return a heading inside a section."""
    return f"<h3>{escape(text)}</h3>"


def bullets(texts):
    """Return a list of sentences."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def table(frame, *, text=False):
    """Return a table that scrolls if it is too wide, with numbers aligned right or text aligned left."""
    with pd.option_context("display.max_colwidth", None):
        rows = frame.to_html(border=0, escape=True, classes="text" if text else None)
    return f'<div class="scroll" tabindex="0">{rows}</div>'


def picture(draw, alt):
    """Call a function that draws a display, and return its figure as SVG to embed in the page."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    # The same picture gives the same text, and a dollar in a name does not begin a formula.
    with mpl.rc_context({"svg.hashsalt": "sklearn_cells", "text.parse_math": False}):
        figure = draw().figure_
        svg = io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
        plt.close(figure)
    width = round(96 * figure.get_size_inches()[0])
    data = base64.b64encode(svg.getvalue()).decode("ascii")
    kind, hint = (' class="wide"', HINT) if width > SMALL_PICTURE else ("", "")
    image = f'<img{kind} src="data:image/svg+xml;base64,{data}" alt="{escape(alt)}" width="{width}">'
    return f'{hint}<div class="scroll" tabindex="0">{image}</div>'


def page(title, introduction, sections, foot):
    """Return the whole page.

    Parameters
    ----------
    title : str
        The title of the page.

    introduction : str
        HTML below the title.

    sections : dict of str
        HTML by heading. Empty ones are left out.

    foot : str
        HTML below the sections.

    Returns
    -------
    html : str
        The page, which loads nothing.
    """
    shown = {name: body for name, body in sections.items() if body}
    anchors = {name: re.sub(r"\W+", "-", name.lower()) for name in shown}
    links = "\n".join(f'<a href="#{anchors[name]}">{escape(name)}</a>' for name in shown)
    bodies = "\n".join(
        f'<section id="{anchors[name]}">\n<h2>{escape(name)}</h2>\n{body}\n</section>' for name, body in shown.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{introduction}
<nav>
{links}
</nav>
{bodies}
<footer>
{foot}
</footer>
</body>
</html>
"""
