"""Publish on the Hugging Face Hub:

python -m vqa.hub push model_cards/vqa org/name [--private] [--revision BRANCH] [--pr]
python -m vqa.hub space org/name [--models vqa=org/vqa,captioner=org/captioner] [--private]
python -m vqa.hub metric vqa_accuracy org/vqa_accuracy [--private]

"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vqa.errors import BadCheckpoint


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what goes wrong ends it with one line and exit status 1."""
    from vqa.errors import NotPublished
    from vqa.hub.publish import push, push_metric, push_space

    parser = argparse.ArgumentParser(prog="python -m vqa.hub", description="Publish on the Hub.")
    commands = parser.add_subparsers(dest="command", required=True)
    model = commands.add_parser("push", help="publish a checkpoint")
    model.add_argument("folder", type=Path, help="of the checkpoint, with its card")
    model.add_argument("--revision", help="branch; main if none is given")
    model.add_argument("--pr", action="store_true", help="open a pull request")
    space = commands.add_parser("space", help="publish the page")
    space.add_argument("--models", default="", help="of the Hub, to load: vqa=ID,captioner=ID")
    metric = commands.add_parser("metric", help="publish a metric, for evaluate.load")
    metric.add_argument("metric", help="its name, as of its file in vqa/metrics")
    for command in (model, space, metric):
        command.add_argument("repo_id", help="org/name")
        command.add_argument("--private", action="store_true", help="if it is made")
    flags, root = parser.parse_args(arguments), Path(__file__).parents[2]
    try:
        if flags.command == "push":
            options = {"revision": flags.revision, "pr": flags.pr}
            print(push(flags.folder, flags.repo_id, private=flags.private, **options))
        elif flags.command == "metric":
            print(push_metric(root, flags.metric, flags.repo_id, private=flags.private))
        else:
            pairs = [part.partition("=") for part in filter(None, flags.models.split(","))]
            models = {kind: repo_id for kind, _, repo_id in pairs}
            print(push_space(root, flags.repo_id, models=models, private=flags.private))
    except (BadCheckpoint, NotPublished) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
