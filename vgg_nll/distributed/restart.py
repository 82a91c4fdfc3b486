"""What processes that torchrun starts in the place of failed ones need to know: the folder of the run that they continue."""

import os
from pathlib import Path


def remember_folder(folder: Path) -> None:
    """Notes the folder for processes that torchrun starts in the place of failed ones, beside the notes of their errors."""
    note = _restart_note()
    if note is not None and os.environ["LOCAL_RANK"] == "0":
        note.write_text(str(folder), encoding="utf-8")


def folder_to_continue() -> Path | None:
    """Returns the folder of the run that this process goes on with, as torchrun has restarted it; None if there is none."""
    note = _restart_note()
    return Path(note.read_text(encoding="utf-8")) if note is not None and note.is_file() else None


def _restart_note() -> Path | None:
    errors = os.environ.get("TORCHELASTIC_ERROR_FILE")  # <a folder of this launch>/attempt_0/<local rank>/error.json
    return Path(errors).parents[2] / "vgg_nll_run_folder" if errors else None
