"""SeeWhy's page: ask a picture a question, and see where the model looked.

`python app.py` starts it; so does a Hugging Face Space.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import gradio as gr

    from vqa.engine import Engine
    from vqa.pipelines.nearest_texts import Neighbours
    from vqa.serving.hot_swap import Loader

# Of this page alone, and of this user, so that whatever is old in it can be deleted.
UPLOADS = Path(tempfile.gettempdir()) / f"seewhy-{getattr(os, 'getuid', int)()}"
# Read by the libraries when they are imported, which therefore happens in functions here.
SWITCHES = {
    "GRADIO_TEMP_DIR": str(UPLOADS),
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",  # its summary, made anew after every call
    "GRADIO_ANALYTICS_MAX_EVENTS": "1",  # the calls that it would be made of
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait for work must not keep the processor busy
}
# The proxies in front of a Space: what they forward is counted as its sender's
# (ui/server/rate_limits.py).
ON_A_SPACE = {"FORWARDED_ALLOW_IPS": "127.0.0.1,10.0.0.0/8"}
TIDY_SECONDS = 60.0  # between two looks for memory that is free
MODELS = Path(__file__).with_name("models.json")  # a Space's, with the models it loads instead


def create_demo(
    engine: Engine, neighbours: Neighbours | None = None, loader: Loader | None = None
) -> gr.Blocks:
    """Lay out the page around a loaded engine.

    It is launched with `ui.server.security.launch_settings`.

    Args:
        engine: its models decide which tabs there are.
        neighbours: sentences for the Feelings tab to show beside a visitor's; None for none.
        loader: of other models for the engine; None for none.
    """
    import gradio as gr

    from ui.components import theme
    from ui.components.examples import CREDITS
    from ui.components.model_updates import follow
    from ui.server import api, gradio_patches, security
    from ui.tabs import ask, caption, feelings, gaze, models
    from vqa.serving.hot_swap import Loader

    age = (security.SESSION_SECONDS, security.SESSION_SECONDS)
    with gr.Blocks(title=theme.TITLE, analytics_enabled=False, delete_cache=age) as demo:
        api.build(engine)  # first: what comes later under the same name gets another
        gr.Markdown(f"# {theme.TITLE}\n{theme.SUBTITLE}", elem_id="head")
        tabs: dict[str, Callable[[Engine], Any]] = {"Ask": ask.build}
        if engine.caption_pipelines:
            tabs["Caption"] = caption.build
        if engine.gaze_pipeline is not None:
            tabs["Gaze"] = gaze.build
        if engine.emoji_pipeline is not None:
            tabs["Feelings"] = partial(feelings.build, neighbours=neighbours)
        following, renewing = [], [demo.load]
        with gr.Tabs(elem_id="tabs"):
            for name, build in tabs.items():
                with gr.Tab(name) as tab:
                    following.append(build(engine))
                    renewing.append(tab.select)
            with gr.Tab("Models"):
                shown, loaded = models.build(loader or Loader(engine))
        follow(engine, [*filter(None, following), shown], [*renewing, loaded])
        gr.Markdown(CREDITS, elem_id="credits")
    gradio_patches.apply_patches(demo)
    return security.queue(demo)


def default_models() -> dict[str, list[str]]:
    """The models that are loaded if none are named: a Space's own, else the shipped ones.

    Returns:
        By the flag of each task the names of its models, none of some perhaps; the first is asked
        if none is chosen.
    """
    from vqa.checkpoints.layout import SHIPPED
    from vqa.tasks import BY_FLAG

    own = json.loads(MODELS.read_text(encoding="utf-8")) if MODELS.is_file() else {}
    return {
        flag: [own[flag]] if flag in own else [f for f in task.folders if (SHIPPED / f).is_dir()]
        for flag, task in BY_FLAG.items()
    }


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the list of all flags."""

    def error(self, message: str) -> NoReturn:
        """End the program with exit status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def _sources(text: str) -> str:
    if any(each in text for each in ";,\r\n") or not text.isascii():
        raise argparse.ArgumentTypeError(f"{text!r} is no list of sites with spaces between them")
    return text


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    from ui.server.loading_page import port_number

    parser = _Parser(description="Serve the page.")
    parser.add_argument("--host", help="address to listen on (default: this machine alone)")
    parser.add_argument(
        "--port",
        type=port_number,
        help="port to listen on, 0 for any that is free (default: 7860 or the next free)",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help='a name that the server has, such as "see.example.org" or "*" for any; may be given '
        "again (default: localhost, --host and this machine's own name; addresses always work)",
    )
    parser.add_argument(
        "--frame_ancestors",
        type=_sources,
        metavar="SITES",
        help='the sites that may show the page in a frame, such as "https://school.example.org" '
        "or \"'none'\" (default: those of Hugging Face, for Spaces)",
    )
    parser.add_argument(
        "--vqa",
        help="answering model: shipped name, folder or Hub id, of ours or a ViLT or BLIP of "
        "transformers",
    )
    parser.add_argument(
        "--captioner",
        action="append",
        help="the same of a describing model; more than one may be given (default: all shipped)",
    )
    parser.add_argument("--gaze", help="the same of the gaze model (default: the shipped one)")
    parser.add_argument("--emoji", help="the same of the emoji model (likewise)")
    parser.add_argument(
        "--sentences",
        help="training sentences to show in the Feelings tab: emoji=FOLDER,emotion=FOLDER",
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PATTERN",
        help='Hub ids that visitors may load in the Models tab, such as "org/*": name authors whom '
        "you trust; may be given again (default: none)",
    )
    parser.add_argument(
        "--allow_mb",
        type=int,
        default=500,
        help="how large the files of such a model may be, in megabytes (default: 500)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Load the models and serve the page until interrupted."""
    flags = parse(arguments)
    switches = SWITCHES | (ON_A_SPACE if "SPACE_ID" in os.environ else {})
    for name, value in switches.items():
        os.environ.setdefault(name, value)

    from ui.server.loading_page import NoStubs, Starting

    sys.meta_path.insert(0, NoStubs())
    try:
        starting = Starting(flags.host, flags.port)
    except (OSError, argparse.ArgumentTypeError) as error:
        print(f"the page cannot be served: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    with starting:
        demo, settings = load(flags, starting.host, starting.tell)
    demo.launch(server_name=starting.host, server_port=starting.port, **settings)


def load(
    flags: argparse.Namespace, host: str, tell: Callable[[str], object]
) -> tuple[gr.Blocks, Any]:
    """Load what the flags name, and lay out the page, with the first example's answer known.

    Args:
        flags: as of `parse`.
        host: that the page will listen on.
        tell: is told what is going on.

    Returns:
        The page, and the arguments of its `launch`.

    Raises:
        SystemExit: naming what is wrong with a model or the sentences.
    """
    tell("Loading the libraries")
    from ui.components.examples import EXAMPLES
    from ui.server import security
    from ui.server.same_site import FRAME_ANCESTORS, own_names
    from vqa import checkpoints
    from vqa.engine import Engine
    from vqa.errors import BadData
    from vqa.pipelines.nearest_texts import Neighbours, open_sentences
    from vqa.runtime.malloc import give_back_freed
    from vqa.serving.hot_swap import Loader

    give_back_freed(TIDY_SECONDS)
    names = default_models()
    vqa, gaze, emoji = (
        getattr(flags, flag) or next(iter(names[flag]), None) for flag in ("vqa", "gaze", "emoji")
    )
    neighbours = None
    tell("Loading the models")
    try:
        engine = Engine.load(vqa or "vqa", flags.captioner or names["captioner"], gaze, emoji)
        if flags.sentences and engine.emoji_pipeline:
            tell("Reading the sentences")
            neighbours = Neighbours(engine.emoji_pipeline, open_sentences(flags.sentences))
    except (checkpoints.BadCheckpoint, BadData) as error:
        raise SystemExit(str(error)) from error
    tell("Looking at the first example")
    engine.answer(EXAMPLES[0].path, EXAMPLES[0].questions[0])
    tell("Laying out the page")
    loader = Loader(engine, flags.allow, most_mb=flags.allow_mb, neighbours=neighbours)
    if os.environ["GRADIO_TEMP_DIR"] == str(UPLOADS):
        try:
            security.private_folder(UPLOADS)
        except OSError as error:
            raise SystemExit(str(error)) from error
        security.keep_clean(UPLOADS)
    sites = flags.frame_ancestors or FRAME_ANCESTORS
    settings = security.launch_settings(own_names(host, flags.name), sites)
    return create_demo(engine, neighbours, loader), settings


if __name__ == "__main__":
    main()
