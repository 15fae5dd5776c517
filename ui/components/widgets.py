"""Small components of our own, which work in the browser without asking the server.

In their templates stand our own words, numbers and data URIs only, never a user's text or the
model's: gradio compiles what it fills in, so that escaping would not be enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from ui.components.events import as_uploaded
from ui.components.examples import EXAMPLES

_CHOICES = """
<div role="group" aria-label="${label}">
{{#each value}}<button type="button">
{{#if thumbnail}}<img src="{{thumbnail}}" alt="" width="72" height="54">{{/if}}<span>{{text}}</span>
</button>{{/each}}
</div>"""
_CHOOSE = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  const index = [...element.querySelectorAll('button')].indexOf(button);
  trigger('select', {index, value: button.textContent.trim()});
});"""
# Screen readers read out what is new in its column, but not every step on the way.
_PROGRESS = """
<p class="now" aria-live="off">{{value.now}}</p>
{{#if value.total}}
<progress max="{{value.total}}" value="{{value.done}}" aria-label="{{value.now}}"></progress>
{{/if}}
<p class="said">{{value.said}}</p>"""
_LIVE = "element.closest('.column')?.setAttribute('aria-live', 'polite');"


def picture(alt_text: str, elem_id: str, height: int = 330) -> gr.Image:
    """Where a visitor puts a picture; it hands over the path of the file, unopened."""
    image = gr.Image(
        type="filepath",
        image_mode=None,
        format="jpeg",
        sources=["upload", "clipboard", "webcam"],
        label="Picture",
        placeholder="Drop a picture here\nor click to choose one",
        height=height,
        buttons=[],
        elem_id=elem_id,
        alt_text=alt_text,
    )
    return as_uploaded(image)


def examples(elem_id: str) -> gr.HTML:
    """The example pictures as `choices`, in the order of `EXAMPLES`."""
    thumbnails = [{"text": x.label, "thumbnail": x.thumbnail()} for x in EXAMPLES]
    return choices("Example pictures", thumbnails, elem_id)


def choices(label: str, value: list[dict[str, str]], elem_id: str) -> gr.HTML:
    """A row of buttons; `.select` tells which one was pressed.

    Args:
        label: what is chosen, for those who cannot see the buttons.
        value: as `texts` makes it, perhaps with a "thumbnail" (a data URI) each.
        elem_id: its name for the style sheet.
    """
    return gr.HTML(
        value,
        label=label,
        html_template=_CHOICES,
        js_on_load=_CHOOSE,
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes="choices",
    )


def texts(words: Sequence[str]) -> list[dict[str, str]]:
    """The value of `choices` for buttons of text."""
    return [{"text": text} for text in words]


def reaction(elem_id: str) -> gr.Markdown:
    """An emoji beside something, which a switch of the Feelings tab hides."""
    return gr.Markdown(elem_id=elem_id, elem_classes="reaction", latex_delimiters=[])


def drawn(elem_id: str, alt: str) -> gr.HTML:
    """A picture that the server draws; its value is {"uri": a data URI}, or None.

    Args:
        elem_id: its name for the style sheet.
        alt: what it shows, in our own words.
    """
    return gr.HTML(
        html_template='{{#if value}}<img src="{{value.uri}}" alt="${label}">{{/if}}',
        label=alt,
        apply_default_css=False,
        elem_id=elem_id,
    )


def progress(elem_id: str) -> gr.HTML:
    """Show how far work is; the value is `at` while it runs, `note_update` before and after."""
    return gr.HTML(
        note_update(""),
        html_template=_PROGRESS,
        js_on_load=_LIVE,
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes="progress",
    )


def at(done: float, total: int, now: str) -> dict[str, float | str]:
    """The value of `progress` while something goes on: how far, total above 0, and what."""
    return {"now": now, "done": round(done, 3), "total": total, "said": ""}


def note_update(words: str) -> dict[str, float | str]:
    """The value of `progress` while nothing goes on."""
    return {"now": "", "done": 0, "total": 0, "said": words}
