"""The models of an engine, each with where it came from; any can be replaced while it is in use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from torch import nn

from vqa import checkpoints
from vqa.describer import Describer
from vqa.feeler import Feeler
from vqa.gazer import Gazer
from vqa.grids import CACHE_BYTES
from vqa.models import TRANSFORMERS, Answerer, Captioner, EmojiModel, GazeModel
from vqa.models.transformers_answerer import TransformersAnswerer
from vqa.responder import GridResponder, Responder

L = TypeVar("L", bound="Lineup")
KINDS: dict[str, tuple[type[nn.Module], Callable[[Any], Any]]] = {  # by app.py's flags
    "vqa": (Answerer, GridResponder),
    "captioner": (Captioner, Describer),
    "gaze": (GazeModel, Gazer),
    "feelings": (EmojiModel, Feeler),
}


class Part(NamedTuple):
    """One of the models."""

    kind: str  # one of KINDS
    key: str  # its place: a captioner's name at the start, else the kind
    name: str  # as it was asked for: a shipped name, a folder or a Hub id
    model: Responder | Describer | Gazer | Feeler  # behind plain calls
    network: nn.Module
    folder: Path | None = None  # that it was loaded from; None if it was handed over

    @property
    def title(self) -> str:
        """Its name for strangers: of a folder the last part, as the rest is nobody's business."""
        local = self.folder and Path(self.name) == self.folder
        return Path(self.name).name if local else self.name


class Lineup:
    """Models that answer, describe, say where people would look, and how texts feel.

    Args:
        answerer: the model that answers; it is put into eval mode, and learns no more.
        captioners: models that describe, by name; the first is the one asked if none is named.
        gaze: model of where people look; None for the answerer's own, if it has one.
        feelings: model of how texts feel; None for none.
        cache_bytes: memory for the grids of the pictures seen last, a model.
    """

    parts: tuple[Part, ...]
    changes = 0  # how often one was replaced

    def __init__(
        self,
        answerer: Answerer | Responder,
        captioners: Mapping[str, Captioner] = MappingProxyType({}),
        gaze: GazeModel | None = None,
        feelings: EmojiModel | None = None,
        *,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if isinstance(answerer, Answerer):
            answerer = GridResponder(answerer, cache_bytes=cache_bytes)
        parts = [Part("vqa", "vqa", "vqa", answerer, answerer.network)]
        for name, network in captioners.items():
            describer = Describer(network, cache_bytes=cache_bytes)
            parts.append(Part("captioner", name, name, describer, network))
        if gaze is not None:
            parts.append(Part("gaze", "gaze", "gaze", Gazer(gaze), gaze))
        if feelings is not None:
            parts.append(Part("feelings", "feelings", "feelings", Feeler(feelings), feelings))
        self.parts = tuple(parts)

    @classmethod
    def of(cls: type[L], parts: Iterable[Part]) -> L:
        """A lineup of parts; without one that answers, it can do no more than these can."""
        lineup = cls.__new__(cls)
        lineup.parts = tuple(parts)
        return lineup

    @classmethod
    def load(
        cls: type[L],
        vqa: str | Path = "vqa",
        captioners: Sequence[str | Path] = (),
        gaze: str | Path | None = None,
        feelings: str | Path | None = None,
        *,
        revision: str | None = None,
    ) -> L:
        """Load models, each a shipped one by name, a local directory, or a Hub id.

        Args:
            vqa: the model that answers: ours, or a ViLT or BLIP of transformers.
            captioners: the models that describe; none are needed.
            gaze: the model of where people look; None for the answerer's own, if it has one.
            feelings: the model of how texts feel; None for none.
            revision: of `vqa`, if it is a Hub id: branch, tag or commit.

        Raises:
            BadCheckpoint: naming what is wrong with one of them.
        """
        parts = [load("vqa", vqa, revision=revision)]
        parts += [load("captioner", name) for name in captioners]
        parts += [
            load(kind, name)
            for kind, name in (("gaze", gaze), ("feelings", feelings))
            if name is not None
        ]
        return cls.of(parts)

    def now(self: L) -> L:
        """The same models, whichever are replaced later: for several calls about one thing."""
        return self.of(self.parts)

    def replace(self, place: int, part: Part) -> None:
        """Replace a model while it is in use: calls that have begun end with the old one.

        Args:
            place: in `parts`.
            part: another one of its kind; it takes over the key.

        Raises:
            ValueError: if it is of another kind.
        """
        parts = list(self.parts)
        if part.kind != parts[place].kind:
            raise ValueError(f"a {part.kind} cannot take the place of a {parts[place].kind}")
        parts[place] = part._replace(key=parts[place].key)
        self.parts = tuple(parts)  # in one step: no thread sees half of it
        self.changes += 1

    @property
    def responder(self) -> Responder:
        """The model that answers."""
        return next(part.model for part in self.parts if isinstance(part.model, Responder))

    @property
    def answerer(self) -> Any:
        """Its network: an `Answerer`, or one of transformers."""
        return self.responder.network

    @property
    def describers(self) -> dict[str, Describer]:
        """The models that describe, by their keys."""
        return {part.key: part.model for part in self.parts if isinstance(part.model, Describer)}

    @property
    def gazer(self) -> Gazer | None:
        """The model of where people look, if there is one: the answerer's own if no other."""
        models = [part.model for part in self.parts]
        own = [model for model in models if isinstance(model, Gazer)]
        return next(iter(own + [m.gazer for m in models if isinstance(m, Responder)]), None)

    @property
    def feeler(self) -> Feeler | None:
        """The model of how texts feel, if there is one."""
        return next((part.model for part in self.parts if isinstance(part.model, Feeler)), None)


def load(kind: str, name: str | Path, *, revision: str | None = None) -> Part:
    """Load a model.

    Args:
        kind: one of `KINDS`.
        name: a shipped model, a directory, or a Hub id.
        revision: of a Hub id: branch, tag or commit.

    Raises:
        BadCheckpoint: naming what is wrong with it.
    """
    return load_folder(kind, str(name), checkpoints.find(name, revision=revision))


def load_folder(kind: str, name: str, folder: Path) -> Part:
    """Load a model that is there already; arguments and errors as of `load`."""
    key = name if kind == "captioner" else kind
    if kind == "vqa" and checkpoints.type_of(folder) in TRANSFORMERS:
        answerer = TransformersAnswerer.load(folder)
        return Part(kind, key, name, answerer, answerer.network, folder)
    network_type, calls = KINDS[kind]
    network = checkpoints.load_as(network_type, folder)
    return Part(kind, key, name, calls(network), network, folder)
