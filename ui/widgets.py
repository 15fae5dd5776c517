"""Two small components of our own, which work in the browser without asking the server.

In their templates stand our own words and data URIs only, never a user's text or the model's:
gradio compiles what it fills in, so that escaping would not be enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr
import numpy as np

from saliency import overlay
from ui.examples import data_uri

_LEGEND = (96, 8)  # pixels
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

_MAP = """
{{#if value}}
<figure>
<div class="stack">
<img src="{{value.picture}}" alt="The picture">
<img class="heat" src="{{value.heat}}" alt="{{value.words}}">
</div>
<figcaption><span>{{value.words}}</span>
<span class="scale" aria-hidden="true">less <img src="{{legend}}" alt=""> more</span></figcaption>
<label class="opacity"><span>Map opacity</span>
<input type="range" min="0" max="100" value="70">
<output>70%</output></label>
</figure>
{{else}}
<div class="empty">
<svg viewBox="0 0 96 56" width="96" aria-hidden="true">
<radialGradient id="iris"><stop stop-color="#fcffa4"/><stop offset="0.35" stop-color="#f98e09"/>
<stop offset="0.7" stop-color="#bc3754"/><stop offset="1" stop-color="#57106e"/></radialGradient>
<path d="M4 28Q48 -20 92 28Q48 76 4 28Z" fill="none" stroke="currentColor" stroke-width="3"/>
<circle cx="48" cy="28" r="15" fill="url(#iris)"/></svg>
<strong>Choose a picture and ask about it</strong>
<p>The answer comes here, with a map of where the model looked.</p>
</div>
{{/if}}"""
_FADE = """
const fade = () => {
  const slider = element.querySelector('input');
  if (!slider) return;
  element.style.setProperty('--heat', slider.value / 100);
  element.querySelector('output').textContent = slider.value + '%';
};
element.addEventListener('input', fade);
for (const id of ['note', 'result'])  // so that screen readers say what is new
  document.getElementById(id)?.setAttribute('aria-live', 'polite');
watch('value', () => {
  fade();
  if (props.value && window.innerWidth < 900)  // one column: the answer is further down
    setTimeout(() => document.getElementById('result').scrollIntoView(), 300);
});"""


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


def map_view() -> gr.HTML:
    """A picture under its map, with a slider for the opacity; its value is `answers.layers`."""
    ramp = overlay.heat(np.linspace(0, 1, 64)[None], _LEGEND)
    return gr.HTML(
        html_template=_MAP,
        js_on_load=_FADE,
        apply_default_css=False,
        elem_id="view",
        legend=data_uri(ramp, "PNG"),
    )
