"""Replaces `train.train` in tests of the queue: a step is a short sleep, and the seed determines how it ends.

Seeds: 7 diverges at step 3, 8 fails, 9 fills the disk, 6 does not listen to SIGTERM; others finish. A run waits after
two steps for as long as there is a file `hold` beside its directory.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import signal
import sys
import time

import filelock
import numpy as np

from train.recipes import RECIPES

STEP_SECONDS = 0.02


def write_record(out, record):
    (out / "run.part").write_text(json.dumps(record))
    os.replace(out / "run.part", out / "run.json")


def save(out, step, seconds):
    meta = {"step": step, "seconds": seconds, "history": [], "arrays": 1}
    with open(out / "checkpoint.part", "wb") as file:
        np.savez(file, meta=json.dumps(meta), v0=np.full(1000, step, "float32"))
    os.replace(out / "checkpoint.part", out / f"checkpoint-{step:08d}.npz")
    for old in sorted(out.glob("checkpoint-*.npz"))[:-2]:
        old.unlink()


def main():
    parser = argparse.ArgumentParser()
    for name in ("model", "recipe", "out", "data_dir", "shortcut", "dataset", "dtype", "initial_weights"):
        parser.add_argument(f"--{name}")
    for name in ("seed", "steps", "batch_size"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    stopped = []
    handler = signal.SIG_IGN if arguments.seed == 6 else lambda number, frame: stopped.append(number)
    signal.signal(signal.SIGTERM, handler)

    out = pathlib.Path(arguments.out)
    changes = {name: getattr(arguments, name) for name in ("steps", "batch_size", "dtype") if getattr(arguments, name)}
    recipe = RECIPES[arguments.recipe].with_values(arguments.set, **changes)
    cores = len(os.sched_getaffinity(0))
    record = {
        "settings": {
            "model": arguments.model,
            "arguments": {"shortcut": arguments.shortcut} if arguments.shortcut else {},
            "dataset": arguments.dataset or "cifar10",
            "recipe": arguments.recipe,
            "recipe_values": json.loads(json.dumps(dataclasses.asdict(recipe))),
            "seed": arguments.seed,
            **({"initial_weights": arguments.initial_weights} if arguments.initial_weights else {}),
        },
        "environments": [{"hardware": f"{cores} {'core' if cores == 1 else 'cores'} of a processor"}],
    }

    with filelock.FileLock(out / ".lock").acquire(timeout=0):
        print(
            f"affinity {sorted(os.sched_getaffinity(0))} threads {os.environ.get('TF_NUM_INTRAOP_THREADS')}", flush=True
        )
        print(f"cache {os.environ['JAX_COMPILATION_CACHE_DIR']}", flush=True)
        write_record(out, record)
        if arguments.initial_weights and not (pathlib.Path(arguments.initial_weights) / "weights.h5").exists():
            sys.exit("error: the initial weights are those of a run that is not finished.")
        if arguments.seed == 8:
            sys.exit("error: the data are not as they should be.")
        if arguments.seed == 9:
            sys.exit("error: the disk is full: the checkpoint of step 3 was not written; the one before is kept.")
        step = int(max((path.stem.split("-")[1] for path in out.glob("checkpoint-*.npz")), default=0))
        seconds = step * STEP_SECONDS
        while step < recipe.steps:
            if stopped:
                save(out, step, seconds)
                print(f"stopped after step {step}", file=sys.stderr)
                sys.exit(143)
            if arguments.seed == 7 and step == 3:
                record["diverged_at"] = step
                write_record(out, record)
                sys.exit("error: the loss is nan at step 3.")
            while step >= 2 and (out.parent / "hold").exists() and not stopped:
                time.sleep(STEP_SECONDS)
            time.sleep(STEP_SECONDS)
            step, seconds = step + 1, seconds + STEP_SECONDS
            save(out, step, seconds)
        (out / "history.csv").write_text(f"step,epoch,train_loss,test_error,seconds\n{step},1,0.5,12.5,{seconds}\n")
        (out / "weights.h5").write_bytes(np.full(2000, arguments.seed, "float32").tobytes())
        record["wall_seconds"] = seconds
        write_record(out, record)


if __name__ == "__main__":
    main()
