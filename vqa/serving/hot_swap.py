"""Other models for an engine in use: those that its owner allows, one at a time, within a size."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from vqa.checkpoints.hub_download import pull
from vqa.engine import Engine
from vqa.errors import BadCheckpoint
from vqa.pipelines import model_set
from vqa.pipelines.emoji import EmojiPipeline
from vqa.pipelines.nearest_texts import Neighbours

MAX_ID_CHARACTERS = 200  # characters of an id; the Hub has shorter ones

Tell = Callable[[str, int, int], object]  # (what is going on, done, total)


class Loader:
    """Replaces the models of an engine; safe to share between threads.

    Until the new one is there, the old one stays: there has to be memory for both.

    Args:
        engine: whose models are replaced, for all who use it.
        allow: patterns of the Hub ids that may be loaded, such as "org/*"; of people whose models
            may use this machine, as a config.json can ask for more memory than the files have.
        most_mb: how large the files of a model may be, in megabytes.
        neighbours: are read again by another model of feelings.
    """

    def __init__(
        self,
        engine: Engine,
        allow: Sequence[str] = (),
        *,
        most_mb: int = 500,
        neighbours: Neighbours | None = None,
    ) -> None:
        self.engine, self.allow, self.most_mb = engine, tuple(allow), most_mb
        self.neighbours = neighbours
        self._first = [(part.title, part.name, part.folder) for part in engine.parts]
        self._busy = threading.Lock()

    def first(self, model_index: int) -> str | None:
        """The title of the model that a place began with, if it can be loaded again."""
        title, _, folder = self._first[model_index]
        return title if folder else None

    def load(self, model_index: int, name: str, tell: Tell) -> None:
        """Replace a model by another one of its kind; if that fails, the old one stays.

        Args:
            place: in `engine.parts`.
            name: an allowed Hub id, or the title of the model that the place began with.
            tell: called with what is going on; what it raises ends the work.

        Raises:
            BadCheckpoint: saying in one line why the model cannot be loaded, or not now.
        """
        name = name.strip()
        self._check(name, model_index)
        if not self._busy.acquire(blocking=False):
            raise BadCheckpoint("another model is being loaded: try again when it is there")
        try:
            self._replace(model_index, name, tell)
        finally:
            self._busy.release()

    def _check(self, name: str, model_index: int) -> None:
        """Refuse what may not be loaded, and what is there already: a reload ends explanations."""
        if not self.allow:
            raise BadCheckpoint("no other model may be loaded here")
        if name in (self.engine.parts[model_index].title, self.engine.parts[model_index].name):
            raise BadCheckpoint(f"{name!r} is there already")
        if name == self.first(model_index):
            return
        if not name:
            raise BadCheckpoint("the id is empty: a model of the Hub is called org/name")
        if len(name) > MAX_ID_CHARACTERS:
            raise BadCheckpoint(f"the id has {len(name):,} characters: no model is called so")
        if not any(fnmatchcase(name, pattern) for pattern in self.allow):
            raise BadCheckpoint(f"{name!r} may not be loaded here, only {', '.join(self.allow)}")

    def _replace(self, model_index: int, name: str, tell: Tell) -> None:
        def progress(done: int, total: int) -> None:
            share = f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
            tell(f"Downloading {share}", done, total)

        tell("Asking the Hub", 0, 1)
        title, first, folder = self._first[model_index]
        if name == title and folder:
            name = first
        else:
            folder = pull(name, most=self.most_mb * 10**6, progress=progress)
        tell("Loading it", 0, 1)
        part = self._load(model_index, name, folder)
        if self.neighbours and isinstance(part.model, EmojiPipeline):
            tell("Reading the sentences", 0, 1)
            self.neighbours.read_by(part.model)
        tell("Loading it", 1, 1)
        self.engine.replace(model_index, part)
        gc.collect()  # the old one's memory is wanted now

    def _load(self, model_index: int, name: str, folder: Path) -> model_set.LoadedModel:
        try:
            return model_set.load_folder(self.engine.parts[model_index].task, name, folder)
        except BadCheckpoint as error:  # where the cache lies is nobody's business
            raise BadCheckpoint(str(error).replace(str(folder), repr(name))) from error
