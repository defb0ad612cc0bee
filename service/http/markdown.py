"""Model cards as pages: the part of Markdown that cards use (headings, paragraphs, lists, tables, code, bold)."""

from __future__ import annotations

import html
import re

STYLE = "/docs/style.css"


def page(title: str, text: str) -> str:
    """A whole page; everything in `text` is escaped, so it cannot bring its own HTML."""
    return document(title, render(text))


def document(title: str, body: str) -> str:
    """The frame of our plain pages; `body` is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html.escape(title)}</title><link rel="stylesheet" href="{STYLE}"></head>'
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def inline(text: str) -> str:
    """Escaped text with code and bold."""
    text = html.escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)


def _row(line: str, cell: str) -> str:
    parts = re.split(r"(?<!\\)\|", line.strip().strip("|"))
    cells = (inline(part.strip().replace("\\|", "|")) for part in parts)
    return "<tr>" + "".join(f"<{cell}>{text}</{cell}>" for text in cells) + "</tr>"


def _block(lines: list[str]) -> str:
    first = lines[0]
    if heading := re.match(r"(#{1,6}) +(.*)", first):
        level = len(heading[1])
        rest = f"\n{_block(lines[1:])}" if lines[1:] else ""
        return f"<h{level}>{inline(heading[2])}</h{level}>{rest}"
    if first.startswith("|") and len(lines) > 1 and re.fullmatch(r"[|:\- ]+", lines[1]):
        rows = "\n".join(_row(line, "td") for line in lines[2:])
        return f"<table><thead>{_row(first, 'th')}</thead><tbody>{rows}</tbody></table>"
    if re.match(r"[-*] ", first):
        items: list[str] = []
        for line in lines:
            if re.match(r"[-*] ", line):
                items.append(line[2:])
            else:
                items[-1] += " " + line.strip()
        return "<ul>" + "".join(f"<li>{inline(item)}</li>" for item in items) + "</ul>"
    return f"<p>{inline(' '.join(line.strip() for line in lines))}</p>"


def render(text: str) -> str:
    """Markdown as HTML."""
    parts = []
    for number, piece in enumerate(re.split(r"^```.*\n?", text, flags=re.MULTILINE)):
        if number % 2:
            parts.append(f"<pre>{html.escape(piece, quote=False)}</pre>")
        else:
            parts.extend(
                _block(block.split("\n")) for block in re.split(r"\n\s*\n", piece.strip("\n")) if block.strip()
            )
    return "\n".join(parts)
