"""The temperature that was fitted to a run, in its folder."""

import shlex

from vgg_nll.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE
from vgg_nll.calibration.temperature import Fitted
from vgg_nll.errors import CheckpointError
from vgg_nll.inference.trained_model import TrainedModel
from vgg_nll.run_folder import checked_json, paths


def write_temperature(trained: TrainedModel, fitted: Fitted) -> None:
    """Writes a temperature into the run folder, with the step of the checkpoint that it belongs to."""
    content = fitted._asdict() | {"step": trained.step}
    checked_json.write(trained.folder / paths.TEMPERATURE, content, trained.run_id)


def read_temperature(trained: TrainedModel) -> Fitted:
    """Returns the temperature that was fitted to this checkpoint. Raises CheckpointError if none was saved for it."""
    path = trained.folder / paths.TEMPERATURE
    fit = f"python scripts/evaluate.py {shlex.quote(str(trained.folder))} --temperature fits one"
    if not path.exists():
        raise CheckpointError(f"{trained.folder}: has no temperature; {fit}")
    try:
        content = checked_json.read(path, trained.run_id)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {fit} again") from error
    step = content.get("step")
    match content:
        case {"temperature": float(value), "low": float(low), "high": float(high), "images": int(images)}:
            saved = Fitted(value, low, high, images)
        case {"temperature": float(value)}:  # of a run from before temperatures had an interval
            saved = Fitted(value, MIN_TEMPERATURE, MAX_TEMPERATURE, 0)
        case _:
            raise CheckpointError(f"{path}: holds no temperature; {fit} again")
    if not MIN_TEMPERATURE <= saved.low <= saved.temperature <= saved.high <= MAX_TEMPERATURE:
        raise CheckpointError(f"{path}: holds no temperature; {fit} again")
    if step != trained.step:
        raise CheckpointError(f"{path}: is of step {step}, and the checkpoint of step {trained.step}; {fit} again")
    return saved


def temperature_of(trained: TrainedModel, given: str) -> tuple[float, str]:
    """Returns the temperature of an option, "saved" or a number, and why it should not be trusted ("": nothing is known)."""
    if given != "saved":
        return float(given), ""
    fitted = read_temperature(trained)
    return fitted.temperature, fitted.doubt()
