"""What a visitor can take along: a map, a link to a question, the conversation as a page.

Nothing of it is a file on the server: maps and page go to the browser as text.
"""

from __future__ import annotations

import base64
import io
import itertools
from html import escape
from typing import Any
from urllib.parse import urlencode

import gradio as gr
import numpy as np
from PIL import Image

from ui.components.examples import EXAMPLES, Example, data_uri
from ui.presenters.answers import picture_of, scaled
from ui.presenters.conversation import PICTURE, Conversation, Turn
from ui.presenters.explanations import percent
from vqa.errors import BadImage, BadText
from vqa.preprocessing import question_text

FROM_LINK = "This question came with a link: press Ask."
NO_SUCH_PICTURE = "The link names a picture that is not among the examples."
_PNG_SIDE = 384  # pixels of the longer side of a map as a PNG
_FILE = "conversation.html"
_NUMBERS = itertools.count()

_KEEP = """
{{#if value}}
<p>{{#if value.npy}}This map: <a href="{{value.png}}" download="map.png">PNG</a>
<a href="{{value.npy}}" download="map.npy">NPY</a>{{/if}}
<button type="button">Copy a link</button>
<span class="said" role="status"></span></p>
{{/if}}"""
_COPY = """
element.addEventListener('click', async (event) => {
  if (!event.target.closest('button')) return;
  const link = location.origin + location.pathname + props.value.query;
  const own = props.value.own ? ' It carries the question, never your picture.' : '';
  const said = element.querySelector('.said');
  try {
    await navigator.clipboard.writeText(link);
    said.textContent = 'Link copied.' + own;
  } catch {
    said.textContent = link + own;
  }
});"""
_SAVE = """
watch('value', () => {
  if (!props.value) return;
  const url = URL.createObjectURL(new Blob([props.value.text], {type: 'text/html'}));
  Object.assign(document.createElement('a'), {href: url, download: props.value.name}).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
});"""
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>A conversation about pictures</title>
<style>
body {{ max-width: 44rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 sans-serif; }}
section {{ margin: 1.5rem 0; padding-top: 1rem; border-top: 1px solid #ccc; }}
h2 {{ margin: 0; font-size: 1rem; }}
p {{ margin: 0.25rem 0; overflow-wrap: anywhere; }}
.said {{ font-size: 1.4rem; font-weight: bold; }}
img {{ display: block; max-width: 100%; margin: 0.5rem 0; border-radius: 8px; }}
small {{ color: #555; }}
</style>
<h1>A conversation about pictures</h1>
{turns}
</html>
"""


def keeping() -> gr.HTML:
    """Downloads of the chosen map and a link to its question; its value is `kept`."""
    return gr.HTML(html_template=_KEEP, js_on_load=_COPY, apply_default_css=False, elem_id="keep")


def saver() -> gr.HTML:
    """What hands a page over to the browser to be saved; its value is `saved`."""
    return gr.HTML(html_template="", js_on_load=_SAVE, apply_default_css=False, elem_id="saver")


def kept(turn: Turn | None) -> dict[str, Any] | None:
    """The value of `keeping` for the chosen turn; None if there is nothing to keep."""
    if turn is None or turn.kind == PICTURE:
        return None
    example = _example(path=turn.path)
    value = {"query": query(turn), "own": example is None}
    return value | (_files(turn.path, turn.grounds.map) if turn.grounds else {})


def query(turn: Turn) -> str:
    """The part of an address that asks a turn's question again, of an example picture."""
    example = _example(path=turn.path)
    return "?" + urlencode(
        {"question": turn.question} | ({"picture": example.label} if example else {})
    )


def opened(link: Any) -> tuple[str | None, str, str]:
    """What a link brings: the path of an example picture, a question, and a note.

    Args:
        link: "question" and "picture" of the address, as the browser hands them over.
    """
    given = link if isinstance(link, dict) else {}
    asked, label = (str(given.get(name) or "") for name in ("question", "picture"))
    example = _example(label=label)
    path = str(example.path) if example else None
    if label and example is None:
        return None, "", NO_SUCH_PICTURE
    try:
        return (
            path,
            question_text.clean_question(asked) if asked else "",
            FROM_LINK if asked else "",
        )
    except BadText as error:
        return path, "", str(error)


def saved(talk: Conversation) -> dict[str, Any]:
    """The value of `saver` that saves a conversation."""
    return {"name": _FILE, "text": page(talk), "number": next(_NUMBERS)}


def page(talk: Conversation) -> str:
    """A conversation as an HTML page that needs nothing else, everything said in it escaped."""
    return _PAGE.format(turns="\n".join(map(_section, talk.turns)))


def _section(turn: Turn) -> str:
    image = f'<img src="{escape(turn.thumb)}" alt="{escape(turn.alt)}">'
    if turn.kind == PICTURE:
        return f"<section><h2>{escape(turn.question)}</h2>{image}</section>"
    top = turn.grounds.top if turn.grounds else ()
    guesses = ", ".join(f"{label} {percent(probability)}" for label, probability in top)
    small = filter(None, (turn.sure, guesses, turn.alt, *turn.notes, turn.reaction))
    lines = "".join(f"<p><small>{escape(line)}</small></p>" for line in small)
    said = f'<p class="said">{escape(turn.said)}</p>'
    return f"<section><h2>{escape(turn.question)}</h2>{said}{image}{lines}</section>"


def _files(path: str, values: np.ndarray) -> dict[str, str]:
    """The chosen map as it is (NPY), and as a grey picture, white where it is highest (PNG)."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    try:
        size = scaled(picture_of(path).size, _PNG_SIDE)
    except BadImage:  # it is gone
        size = (_PNG_SIDE, _PNG_SIDE)
    grey = Image.fromarray((255 * values / (values.max() or 1)).round().astype(np.uint8))
    smooth = grey.resize(size, Image.Resampling.BILINEAR)
    return {
        "npy": f"data:application/octet-stream;base64,{encoded}",
        "png": data_uri(smooth, "PNG", compress_level=1),
    }


def _example(*, path: str = "", label: str = "") -> Example | None:
    """The example of that path or that label, if there is one."""
    return next((x for x in EXAMPLES if path == str(x.path) or label == x.label), None)
