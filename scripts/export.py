"""Exports a finished run for other programs: `python scripts/export.py RUN --format onnx` (RUN/export/model.onnx)."""

import argparse
from pathlib import Path

from vgg_nll.cli.console import write_any_text
from vgg_nll.cli.error_messages import errors_as_lines
from vgg_nll.cli.scripts import check_run, fraction, temperature, warn_of_temperature
from vgg_nll.run_folder import paths


def main() -> None:
    write_any_text()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument(
        "--format",
        default="onnx",
        choices=list(paths.EXPORTS),
        help="onnx (the default): a program for onnxruntime; torch_export: one for PyTorch; safetensors: the weights alone",
    )
    parser.add_argument("--output", type=Path, help="the file (RUN/export/model.onnx, .pt2, .safetensors)")
    parser.add_argument("--checkpoint", default="best", choices=["best", "last", "previous"])
    parser.add_argument(
        "--temperature",
        type=temperature,
        nargs="?",
        const="saved",
        default="1",
        metavar="T",
        help="the program divides the logits by T, a number; without T, by the one that scripts/evaluate.py saved",
    )
    parser.add_argument(
        "--threshold",
        type=fraction,
        default=0.0,
        metavar="P",
        help="confidence below which a program should call a picture unsure; goes into the metadata (0)",
    )
    args = parser.parse_args()
    with errors_as_lines():
        check_run(args.run, "cpu", args.temperature)
        from vgg_nll.inference import export, trained_model  # here: they load PyTorch, and mistakes should not wait for that
        from vgg_nll.inference.saved_temperature import temperature_of

        path = args.output or args.run / paths.EXPORT / paths.EXPORTS[args.format]
        trained = trained_model.load(args.run, args.checkpoint, "cpu")
        at_temperature, doubt = temperature_of(trained, args.temperature)
        warn_of_temperature(doubt)
        difference = export.export(trained, args.format, path, temperature=at_temperature, threshold=args.threshold)
        size = path.stat().st_size / 1e6
        print(
            f"{path}: {size:,.1f} MB, {len(trained.class_names)} classes, temperature {at_temperature:.4g}; "
            f"outputs within {difference:.1g} of the checkpoint's"
        )


if __name__ == "__main__":
    main()
