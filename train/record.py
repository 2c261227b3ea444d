"""run.json: what a run is, where it was made, and how it ended."""

import json
import os
import shlex
import sys

from train.devices import ONE_DEVICE
from train.environment import environment
from train.recipes import completed

RUN_FILE = "run.json"


def start_record(out, settings, devices=ONE_DEVICE):
    """Writes run.json, or checks that the one there is of the same run.

    Args:
        out: folder of the run.
        settings: all that decides the result, as JSON.
        devices: `train.devices.Devices`.

    Returns:
        The record, a dictionary: settings, command, environments (one for each place the run was
        resumed in).

    Raises:
        ValueError: the folder holds a run with other settings.
    """
    path, here = out / RUN_FILE, environment(devices)
    if path.exists():
        record = json.loads(path.read_text())
        before = {**record["settings"], "recipe_values": completed(record["settings"].get("recipe_values", {}))}
        changed = [key for key in settings | before if before.get(key) != settings.get(key)]
        if changed:
            raise ValueError(f"{out} holds a run with other {', '.join(changed)}: choose another --out.")
        if "wall_seconds" not in record and record["environments"][-1] != here:  # else it is finished
            record["environments"].append(here)
            write_json(path, record)
        return record
    record = {"settings": settings, "command": command(), "environments": [here]}
    write_json(path, record)
    return record


def command():
    """The command of this run, without the places that are this machine's own."""
    local = ("--data_dir", "--out", "--tensorboard", "--processes")
    shown, skip = [], False
    for argument in sys.argv[1:]:
        name, equals, _ = argument.partition("=")
        if skip:
            skip = False
        elif name in local:
            skip = not equals
        else:
            shown.append(shlex.quote(argument))
    return " ".join(["python -m train.train", *shown])


def write_json(path, content):
    """Writes a JSON file whole or not at all."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(partial, path)
