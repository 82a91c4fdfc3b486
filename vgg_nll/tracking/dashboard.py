"""How to look at runs: the command that starts TensorBoard, and a link that opens it at what matters."""

import json
import re
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote

from vgg_nll.tracking import tags

PORT = 6006  # TensorBoard's
OPTIONS = ("--samples_per_plugin", "images=100")  # else the slider of a picture has 10 steps
RELOAD = "an open page shows new points if you press its reload button, or turn on 'Reload data' in its settings"


def command(folder: Path) -> str:
    """Returns the command that starts TensorBoard on a folder of runs, for a shell."""
    program = Path(sys.executable).with_name("tensorboard")
    return shlex.join([str(program) if program.exists() else "tensorboard", "--logdir", str(folder), *OPTIONS])


def link(losses: Collection[str], port: int = PORT) -> str:
    """Returns the address of the Time Series page: the cards of `tags.PINNED` on top, no smoothing, a colour per loss.

    Args:
        losses: the names of all losses. That of a run ends its folder's name, or stands in it as `loss=...`.
    """
    longest_first = sorted(losses, key=lambda name: (-len(name), name))  # argmax_prediction before argmax
    pattern = "|".join(map(re.escape, longest_first))
    cards = [{"plugin": "scalars", "tag": tag} for tag in tags.PINNED]
    settings = {
        "smoothing": "0",
        "runColorGroup": f"regex:(?:loss=|_)({pattern})(?=[,/]|$)",
        "pinnedCards": json.dumps(cards, separators=(",", ":")),
    }
    query = "&".join(f"{key}={quote(value, safe='/:,')}" for key, value in settings.items())
    return f"http://localhost:{port}/?{query}#timeseries"
