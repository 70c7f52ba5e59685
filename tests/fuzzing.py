"""What all fuzzers in `tests/fuzz/` share: cases in turn, bounded, and their counts.

A fuzzer is a module with a function `case(random, folder)` that makes one hostile input
in an empty folder, gives it to the code under test, and returns a word for how that
ended, such as "loaded". `ValueError` is a clear refusal if its message is short and
printable; any other exception, more than `MOST_SECONDS` or `MOST_BYTES` is a failure.
"""

import argparse
import collections
import contextlib
import gc
import random
import re
import shutil
import tempfile
import time
import traceback
from pathlib import Path

MOST_SECONDS = 2.0
MOST_BYTES = 500_000_000
MOST_CHARACTERS = 2000


def peak_bytes(reset=False):
    """Most memory that this process has held, since the last reset if it can be.

    A limit of the process instead (`RLIMIT_AS`) makes other threads abort it.
    """
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024


def ending(function, *arguments, most_bytes=MOST_BYTES):
    """How a call ends: the word it returns, "refused", or "FAILED: why"."""
    before, start = peak_bytes(reset=True), time.process_time()
    try:
        word = function(*arguments)
    except ValueError as error:
        word = "refused"
        causes, cause = [], error
        while cause is not None:
            causes.append(cause)
            cause = cause.__cause__
        if any(isinstance(cause, MemoryError) for cause in causes):
            word = "FAILED: no memory is left"
        if len(str(error)) > MOST_CHARACTERS or not str(error).isprintable():
            word = f"FAILED: an unbounded message, {str(error)[:200]!r}"
    except Exception:
        word = f"FAILED: {traceback.format_exc()}"
    seconds = time.process_time() - start
    if peak_bytes() - before > most_bytes:
        word = f"FAILED: more than {most_bytes} bytes, {word}"
    if seconds > MOST_SECONDS:
        word = f"FAILED: {seconds:.1f} s, {word}"
    return word


def run(case, seed, seconds=0.0, least=0):
    """Run cases 0, 1, 2, ... of a seed for some seconds, and at least so many.

    Returns a `Counter` of how they ended; those that failed are printed.
    """
    counts = collections.Counter()
    gc.collect()
    end = time.monotonic() + seconds
    number = 0
    while number < least or time.monotonic() < end:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        word = ending(case, random.Random(f"{seed} {number}"), folder)
        shutil.rmtree(folder)
        kind, _, reason = word.partition(":")
        counts[kind] += 1
        if kind == "FAILED":
            print(f"case {number} of seed {seed}:{reason}")
        number += 1
    return counts


def arguments_of_all():
    """A parser with what every fuzzer takes, so that `make fuzz` runs them all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(case, arguments=None, prepare=lambda: None):
    """Run a fuzzer by its command line, print the counts; 1 if a case failed.

    `prepare` is called first, for what should count to no case.
    """
    parser = arguments_of_all()
    parser.add_argument("--least", type=int, default=0, help="number of cases")
    parser.add_argument("--only", type=int, help="one case, without any bound")
    options = parser.parse_args(arguments)
    prepare()
    if options.only is not None:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        print(case(random.Random(f"{options.seed} {options.only}"), folder))
        return 0
    counts = run(case, options.seed, options.seconds, options.least)
    listed = ", ".join(f"{word} {count}" for word, count in sorted(counts.items()))
    print(f"{Path(case.__code__.co_filename).stem}: tried {counts.total()}: {listed}")
    return int(counts["FAILED"] > 0)
