"""Maps over their pictures, as components that fade in the browser without asking the server.

As in `widgets`, nothing that a user or the model said goes into a template.
"""

from __future__ import annotations

import gradio as gr
import numpy as np

from saliency import overlay
from ui.examples import data_uri

_LEGEND = (96, 8)  # pixels
_STACK = """
<div class="stack">
<img src="{{picture}}" alt="{{alt}}">
{{#if heat}}<img class="heat" src="{{heat}}" alt="{{words}}">{{/if}}
{{#if nothing}}<span class="nothing">no positive evidence</span>{{/if}}
</div>"""
_OPACITY = """
<label class="opacity"><span>Map opacity</span>
<input type="range" min="0" max="100" value="70">
<output>70%</output></label>"""
_FADE = """
const scope = element.closest('#why') ?? element;
const fade = () => {
  const slider = element.querySelector('input');
  if (!slider) return;
  scope.style.setProperty('--heat', slider.value / 100);
  element.querySelector('output').textContent = slider.value + '%';
};
element.addEventListener('input', fade);
watch('value', fade);
fade();
"""

_VIEW = (
    """
{{#if value}}
<figure>
{{#with value}}"""
    + _STACK
    + """{{/with}}
<figcaption>{{value.words}}</figcaption>
</figure>
<div class="tools">
<span class="scale" aria-hidden="true">less <img src="{{legend}}" alt=""> more</span>
"""
    + _OPACITY
    + """
</div>
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
)
_SHOW = (
    _FADE
    + """
for (const id of ['note', 'result'])  // so that screen readers say what is new
  document.getElementById(id)?.setAttribute('aria-live', 'polite');
watch('value', () => {
  if (props.value && window.innerWidth < 900)  // one column: the answer is further down
    setTimeout(() => document.getElementById('result').scrollIntoView(), 300);
});"""
)

_FIGURE = (
    "{{#if value}}{{#with value}}<figure aria-live='off'>"
    + _STACK
    + "<figcaption>{{words}}</figcaption></figure>{{/with}}{{/if}}"
)
_CARDS = (
    """
{{#if value}}<ul aria-live="off">
{{#each value}}<li class="{{state}}"><figure>"""
    + _STACK
    + """
<figcaption><p class="head"><strong>{{label}}</strong> <span>{{seconds}}</span></p>
<p>{{words}}</p>
<p class="verdict">{{verdict}}</p></figcaption></figure></li>{{/each}}
</ul>{{/if}}"""
)
_TOOLS = (
    """
{{#if value}}<div class="tools" aria-live="off">
<div class="legends" aria-hidden="true">
{{#if value.plain}}<span class="scale">less <img src="{{plain}}" alt=""> more</span>{{/if}}
{{#if value.signed}}
<span class="scale">against <img src="{{signed}}" alt=""> for the answer</span>
{{/if}}
<span>{{value.note}}</span></div>
"""
    + _OPACITY
    + "</div>{{/if}}"
)


def view() -> gr.HTML:
    """Where the model looked, with a slider for the opacity; its value is `answers.layers`."""
    return _html(_VIEW, _SHOW, "view", legend=_ramp())


def figure() -> gr.HTML:
    """One map over its picture with its words below; its value is `evidence.figure`."""
    return _html(_FIGURE, None)


def cards(elem_id: str) -> gr.HTML:
    """A map a method, side by side; its value is a list of `evidence.card`."""
    return _html(_CARDS, None, elem_id)


def tools(elem_id: str) -> gr.HTML:
    """The legend and the slider of all maps of a section.

    Its value tells which legends to show: "plain", "signed", and a "note" in words; None for none.
    """
    return _html(_TOOLS, _FADE, elem_id, plain=_ramp(), signed=_ramp(signed=True))


def _html(template: str, script: str | None, elem_id: str | None = None, **given: str) -> gr.HTML:
    return gr.HTML(
        html_template=template,
        js_on_load=script,
        apply_default_css=False,
        elem_id=elem_id,
        elem_classes="maps",
        **given,
    )


def _ramp(*, signed: bool = False) -> str:
    values = np.linspace(-1 if signed else 0, 1, 64)[None]
    return data_uri(overlay.heat(values, _LEGEND, signed=signed), "PNG")
