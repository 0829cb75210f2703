"""The command line of the comparison."""

import argparse
import shutil
import sys
import time
from pathlib import Path

from . import markdown, plots
from .install import install
from .machine import describe
from .paths import RESULTS, WORK
from .plan import FULL, QUICK
from .record import Record
from .sections import SECTIONS
from .targets import readable, targets


def arguments():
    parser = argparse.ArgumentParser(prog="just bench", description="Compares whole servers in one run.")
    parser.add_argument(
        "--quick", action="store_true", help="fewer users and shorter rounds: shows that all of it works"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=SECTIONS,
        metavar="NAME",
        help=f"one section, may be repeated: {', '.join(SECTIONS)}",
    )
    parser.add_argument(
        "--add", action="store_true", help="put what is measured into the latest record, replacing what it had"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write; bench/results")
    parser.add_argument("--no-build", action="store_true", help="take the release build as it is")
    parser.add_argument(
        "--keep", action="store_true", help="keep the databases, and take those that an earlier run kept"
    )
    parser.add_argument("--show", action="store_true", help="measure nothing: write the page of the latest record anew")
    return parser.parse_args()


def main():
    options = arguments()
    options.results.mkdir(parents=True, exist_ok=True)
    if options.show:
        show(Record.read(options.results / "latest.json"), options.results)
        return
    plan = QUICK if options.quick else FULL
    install(build=not options.no_build)
    if not options.keep:
        shutil.rmtree(WORK, ignore_errors=True)
    record = Record(describe(plan))
    earlier = Record.read(options.results / "latest.json") if options.add else None
    if record.about["machine"]["load_average_at_start"] > 0.5 and not options.quick:
        print("This machine is busy: the figures will be of little use.", file=sys.stderr)
    begun = time.monotonic()
    for name in options.only or SECTIONS:
        started = time.monotonic()
        try:
            SECTIONS[name](record, plan)
        finally:
            record.about["minutes"] = round((time.monotonic() - begun) / 60, 1)
            if not earlier:
                # A run that is broken off leaves what it has.
                record.write(options.results / "latest.json")
        print(f"== {name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if earlier:
        earlier.put(record)
        record = earlier
        record.write(options.results / "latest.json")
    show(record, options.results)
    if not options.keep:
        shutil.rmtree(WORK, ignore_errors=True)


def show(record, results):
    (results / "latest.md").write_text(markdown.page(record, plots.draw(record, results)))
    for target in targets(record):
        print(f"{target.verdict.strip('*'):12} {readable(target.value):>7}  ({target.wanted})  {target.what}")
    problems = sum(row[kind] for row in record.loads for kind in markdown.PROBLEMS)
    print(
        f"{problems} answers not as expected, socket errors and timeouts in {len(record.loads)} loads; "
        f"see {results / 'latest.md'}"
    )


main()
