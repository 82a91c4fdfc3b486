"""Measures everything that waits for a GPU, part by part: `python scripts/gpu.py` (`--help`: options), or `make gpu`."""

import argparse
import sys
from pathlib import Path

from vgg_nll.cli.console import write_any_text
from vgg_nll.cli.error_messages import errors_as_lines
from vgg_nll.cli.scripts import count


def main() -> None:
    write_any_text()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="cpu: every part at a tiny size, to see that it runs")
    parser.add_argument(
        "--out", type=Path, default=Path("measured"), help="a folder for one JSON file per part; what is there stays"
    )
    parser.add_argument("--minutes", type=count, default=25, help="after which no part begins, and the last one is ended")
    parser.add_argument("--parts", nargs="+", default=[], metavar="PART", help="only these")
    args = parser.parse_args()
    with errors_as_lines():
        from vgg_nll import hardware
        from vgg_nll.benchmarks import gpu

        try:
            hardware.choose_device(args.device)
        except ValueError as error:
            parser.error(str(error))
        names = [part.name for part in gpu.PARTS]
        unknown = set(args.parts) - set(names)
        if unknown:
            parser.error(f"--parts {' '.join(sorted(unknown))}: must be of {' '.join(names)}")
        if args.out.exists() and not args.out.is_dir():
            parser.error(f"--out {args.out}: is a file; name a folder")
        sys.exit(min(gpu.measure(args), 1))


if __name__ == "__main__":
    main()
