"""The queue of runs: order, end, and archives; with fake runs except for one real one."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from rich.console import Console

from helpers.paths import ROOT
from helpers.with_resnet8 import ROW
from keras_resv2.architectures import ARCHITECTURES
from keras_resv2.storage.weight_file import read_weights
from train import sweep
from train.config import RunConfig
from train.job_queue import archives, jobs, scheduler, unpacking
from train.job_queue.display import Display
from train.job_queue.processes import Machine
from train.job_queue.progress import Progress, Speeds, read_progress, speed
from train.job_queue.scheduler import Queue
from train.recipes import RECIPES
from train.run_files import newest_checkpoints, read_checkpoint_meta

FAKE = (sys.executable, str(ROOT / "tests/helpers/fake_train.py"))
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
MACHINE = Machine((), "a processor", tuple(CORES))

pytestmark = pytest.mark.skipif(not CORES, reason="stand-ins for runs need os.sched_getaffinity (Linux)")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Fake runs are scripts, which find the package through this."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)


def write(tmp_path, *tables, name="jobs.toml", defaults='recipe = "paper"'):
    text = f"[defaults]\n{defaults}\n" + "".join(f"\n[[job]]\n{table}\n" for table in tables)
    (tmp_path / name).write_text(text)
    return tmp_path / name


def job(steps=5, model="resnet20", **keys):
    lines = [f'model = "{model}"', f"values = {{steps = {steps}}}"]
    return "\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in keys.items())])


def run(path, out, *more, machine=MACHINE, clock=time.monotonic):
    flags = ["--jobs", str(path), "--out", str(out), *map(str, more)]
    return sweep.main(flags, program=FAKE, machine=machine, clock=clock)


class Clock:
    """The clock of a sweep that is limited to a minute: it stands still until a condition holds; then time is up."""

    def __init__(self, condition):
        self._condition, self._began = condition, None

    def __call__(self):
        if self._began is None and self._condition():
            self._began = time.monotonic()
        return 0.0 if self._began is None else 54.0 + time.monotonic() - self._began  # a tenth is for saving


def is_finished(run):
    return (run / "weights.h5").exists() and "wall_seconds" in json.loads((run / "run.json").read_text())


def status(out):
    with open(out / "status.csv", newline="") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def states(out):
    return {name: row["state"] for name, row in status(out).items()}


def test_all_runs_are_trained_on_cores_of_their_own(tmp_path, capsys):
    path = write(tmp_path, job(seeds=2, name="table1/one"), job(model="resnet32", seeds=[4]))
    assert run(path, tmp_path / "runs") == 0
    names = ["table1/one-seed0", "table1/one-seed1", "resnet32-cifar10-paper-steps-5-seed4"]
    assert states(tmp_path / "runs") == dict.fromkeys(names, "finished")
    logs = [(tmp_path / "runs" / name / "train.log").read_text() for name in names]
    cores = [json.loads(log.splitlines()[0].split("affinity ")[1].split(" threads")[0]) for log in logs[:2]]
    if len(CORES) > 1:
        assert cores[0] and cores[1] and not set(cores[0]) & set(cores[1])
    if len(CORES) == 2:
        assert sorted(log.splitlines()[0] for log in logs[:2]) == [f"affinity [{c}] threads 1" for c in CORES]
    assert all(f"cache {tmp_path / 'runs/.compiled'}" in log for log in logs)
    assert "table1/one-seed1: finished" in capsys.readouterr().out
    assert status(tmp_path / "runs")[names[0]]["test_error"] == "12.5"
    before = {name: (tmp_path / "runs" / name / "run.json").stat().st_mtime_ns for name in names}
    assert run(path, tmp_path / "runs") == 0  # nothing is left to do
    assert before == {name: (tmp_path / "runs" / name / "run.json").stat().st_mtime_ns for name in names}


def test_a_run_waits_for_the_one_that_it_starts_from(tmp_path):
    """Even if a core is free for it; if that run fails, it fails as well."""
    out = tmp_path / "runs"
    after = [job(name=f"after{seed}", initial_weights=str(out / f"a-seed{seed}"), priority=1) for seed in (0, 8)]
    path = write(tmp_path, *after, job(name="a", seeds=[0, 8], steps=20))
    assert run(path, out, "--at_once", 2) == 1
    found = {"a-seed0": "finished", "after0-seed0": "finished", "a-seed8": "failed", "after8-seed0": "failed"}
    assert states(out) == found
    assert status(out)["after8-seed0"]["message"] == "depends on a-seed8, which failed"
    assert (out / "after0-seed0/train.log").stat().st_mtime > (out / "a-seed0/weights.h5").stat().st_mtime
    assert not (out / "after8-seed0").exists()


def test_a_run_waits_for_a_core_of_its_own(tmp_path, monkeypatch):
    """Runs that had to wait for another start on the cores that it leaves, never on those of others."""
    out, started = tmp_path / "runs", []

    class Fake:
        def __init__(self, config, cores, environment, program):
            self.cores = cores
            started.append((config.out.name, cores))

    monkeypatch.setattr(scheduler, "Process", Fake)
    after_a = {"initial_weights": str(out / "a-seed0")}
    path = write(tmp_path, job(name="a", priority=2), job(name="b", priority=1), job(name="c", seeds=3, **after_a))
    queue = Queue(jobs.read_jobs(path, out), out, Machine((), "a processor", (0, 1, 2, 3)))
    queue._start()
    assert queue.at_once == 4 and started == [("a-seed0", (0, 1)), ("b-seed0", (2, 3))]
    next(entry for entry in queue.entries if entry.job.name == "a-seed0").state = "finished"
    queue._start()
    assert started[2:] == [("c-seed0", (0,)), ("c-seed1", (1,))]
    next(entry for entry in queue.entries if entry.job.name == "b-seed0").state = "finished"
    queue._start()
    assert started[4:] == [("c-seed2", (2, 3))]


def test_a_chain_fails_as_a_whole(tmp_path):
    """In any order, and not with the exit status of a sweep that ran out of time."""
    out = tmp_path / "runs"
    path = write(
        tmp_path,
        job(name="c", initial_weights=str(out / "b-seed0"), priority=2),
        job(name="b", initial_weights=str(out / "a-seed8"), priority=1),
        job(name="a", seeds=[8]),
    )
    assert run(path, out, "--at_once", 1) == 1
    assert set(states(out).values()) == {"failed"}


def test_weight_files_below_the_sweep_and_runs_that_began_need_no_other_run(tmp_path):
    out = tmp_path / "runs"
    out.mkdir()
    (out / "weights.h5").touch()
    began = begun(out, "b-seed0", 100, 10.0, 1000, "here")
    path = write(
        tmp_path, job(name="a", initial_weights=str(out / "weights.h5")),
        job(name="b", steps=1000, initial_weights=str(out / "gone-seed0")),
    )  # fmt: skip
    found = jobs.read_jobs(path, out)
    assert newest_checkpoints(began) and not any(one.needs(other) for one in found for other in found)
    path = write(tmp_path, job(name="b", steps=1000, initial_weights=str(tmp_path / "removed")))
    assert jobs.read_jobs(path, out)[0].sources() == []  # it has a checkpoint
    path = write(tmp_path, 'name = "b"\nmodel = "resnet20"\nvalues = {steps = 1000, teacher = "removed/too"}')
    with pytest.raises(jobs.JobError, match="teacher='removed/too'"):
        jobs.read_jobs(path, out)
    (began / "weights.h5").touch()
    assert jobs.read_jobs(path, out)[0].sources() == []  # it is finished


def test_runs_that_wait_for_each_other_are_refused(tmp_path, capsys):
    out = tmp_path / "runs"
    path = write(
        tmp_path, job(name="a", initial_weights=str(out / "b-seed0")), job(name="b", initial_weights=f"{out}/a-seed0")
    )
    assert run(path, out) == 2
    assert capsys.readouterr().err.count("can never start: it depends on a cycle of runs") == 2
    assert run(write(tmp_path, job(initial_weights=str(out / "c-seed0"))), out) == 2
    assert "is not a run. No job of this file trains it." in capsys.readouterr().err and not out.exists()


def test_failures_and_divergence_do_not_stop_other_runs(tmp_path):
    path = write(tmp_path, job(name="a", seeds=[7, 8, 9, 1]))
    assert run(path, tmp_path / "runs", "--at_once", 1) == 1
    rows = status(tmp_path / "runs")
    assert [rows[f"a-seed{seed}"]["state"] for seed in (7, 8, 9, 1)] == ["diverged", "failed", "failed", "finished"]
    assert rows["a-seed7"]["message"] == "diverged at step 3"
    assert rows["a-seed8"]["message"] == "error: the data are not as they should be."
    assert "the disk is full" in rows["a-seed9"]["message"]
    assert run(path, tmp_path / "runs") == 1  # what diverged would do so again; what failed is tried again
    assert (tmp_path / "runs/a-seed7/train.log").read_text().count("affinity") == 1
    assert (tmp_path / "runs/a-seed8/train.log").read_text().count("affinity") == 2


def test_the_time_limit_is_kept_and_the_next_sweep_resumes(tmp_path):
    """One run ignores the signal and is killed; both resume from a checkpoint."""
    path = write(tmp_path, job(name="a", steps=200, seeds=[0]), job(name="b", steps=150, seeds=[6]))
    hold, begun = tmp_path / "runs/hold", [tmp_path / "runs" / name for name in ("a-seed0", "b-seed6")]
    hold.parent.mkdir()
    hold.touch()
    clock = Clock(lambda: all(newest_checkpoints(folder) for folder in begun))
    assert run(path, tmp_path / "runs", "--minutes", 1, "--at_once", 2, clock=clock) == 143
    assert clock() < 70
    rows = status(tmp_path / "runs")
    assert {row["state"] for row in rows.values()} == {"stopped"}
    saved = {name: read_checkpoint_meta(newest_checkpoints(tmp_path / "runs" / name)[0])["step"] for name in rows}
    assert all(0 < step < 150 for step in saved.values())
    hold.unlink()
    assert run(path, tmp_path / "runs", "--at_once", 2) == 0


def test_a_killed_sweep_leaves_no_process_and_the_next_resumes(tmp_path):
    path = write(tmp_path, job(name="a", steps=150, seeds=2))
    code = f"""
import sys
from train import sweep
from train.job_queue.processes import Machine
sys.exit(sweep.main(sys.argv[1:], program={FAKE!r}, machine=Machine((), "a processor", {MACHINE.cores!r})))
"""
    out = tmp_path / "runs"
    out.mkdir()
    (out / "hold").touch()
    command = [sys.executable, "-c", code, "--jobs", str(path), "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while len(list(out.glob("*/checkpoint-*.npz"))) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert other.returncode == 2 and "another sweep is running" in other.stderr
    finally:
        process.kill()
        process.wait()
        (out / "hold").unlink()
    assert run(path, out) == 0  # waits for what the killed sweep's runs still save
    assert "stopped after step" in "".join((out / f"a-seed{seed}/train.log").read_text() for seed in (0, 1))


def test_a_signal_saves_stops_and_has_its_exit_code(tmp_path):
    path = write(tmp_path, job(name="a", steps=1000))
    code = f"""
import os, pathlib, time
while not list(pathlib.Path({str(tmp_path)!r}).glob("runs/*/checkpoint-*.npz")):
    time.sleep(0.02)
os.kill({os.getpid()}, 15)
"""
    timer = subprocess.Popen([sys.executable, "-c", code])
    assert run(path, tmp_path / "runs") == 143
    timer.wait()
    assert states(tmp_path / "runs") == {"a-seed0": "stopped"}
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def begun(out, name, step, seconds, steps, hardware, seed=0):
    """An interrupted run with its measured speed."""
    folder = out / name
    folder.mkdir(parents=True)
    config = RunConfig("resnet20", "paper", RECIPES["paper"].with_values([], steps=steps), seed=seed)
    values = json.loads(json.dumps(config.values.__dict__))
    settings = {"model": "resnet20", "arguments": {}, "dataset": "cifar10", "recipe": "paper", "seed": seed}
    record = {"settings": {**settings, "recipe_values": values}, "environments": [{"hardware": hardware}]}
    (folder / "run.json").write_text(json.dumps(record))
    history = [{"step": step // 2, "seconds": seconds / 2}]
    meta = {"step": step, "seconds": seconds, "history": history}
    np.savez(folder / f"checkpoint-{step:08d}.npz", meta=json.dumps(meta), v0=np.zeros(3))
    return folder


def test_what_is_nearest_its_end_comes_first_then_priority(tmp_path):
    path = write(
        tmp_path, job(name="low", seeds=[0]), job(name="high", priority=2, seeds=[0]),
        job(name="far", steps=1000, seeds=[0]), job(name="near", steps=1000, seeds=[0]),
    )  # fmt: skip
    hardware = MACHINE.hardware(len(CORES))
    begun(tmp_path / "runs", "far-seed0", 100, 10.0, 1000, hardware)
    begun(tmp_path / "runs", "near-seed0", 900, 90.0, 1000, hardware)
    found = jobs.read_jobs(path, tmp_path / "runs")
    queue = Queue(found, tmp_path / "runs", MACHINE, at_once=1)
    assert [entry.job.name.split("-")[0] for entry in queue.order()] == ["near", "far", "high", "low"]


def test_nothing_starts_that_does_not_fit(tmp_path, capsys):
    """0.1 s per step is known from the run on the same hardware: 1,000 steps, and 10 s to start, take 115 s."""
    out, hardware = tmp_path / "runs", MACHINE.hardware(1)
    begun(out, "far-seed0", 100, 10.0, 1100, hardware)
    path = write(tmp_path, job(name="far", steps=1100), job(name="new", steps=1200, seeds=[3]))
    machine = Machine((), "a processor", MACHINE.cores[:1])
    assert run(path, out, "--minutes", 1, machine=machine) == 2
    assert "error: no run fits in 1 minutes: the shortest takes 115 s" in capsys.readouterr().err
    assert run(path, out, "--minutes", 2.4, "--dry_run", machine=machine) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[1] == "far-seed0: waiting, 1,100 steps, 100 done, takes 115 s"
    assert printed[3].startswith("new-seed3: waiting, 1,200 steps, takes 2 min, does not fit")
    assert printed[2] == (
        f"    python -m train.train --model resnet20 --recipe paper --steps 1100 --seed 0 --out {out}/far-seed0"
    )
    elsewhere = Queue(jobs.read_jobs(path, out), out, Machine(("a GPU",), "", ()), seconds=60)
    assert [entry.seconds_left for entry in elsewhere.entries] == [None, None]  # another machine's speed says nothing


def test_times_by_hand():
    assert speed([(100, 60.0)]) == (None, 0.0)
    assert speed([(100, 60.0), (200, 70.0), (300, 120.0), (400, 130.0)]) == (0.1, 50.0)
    config = RunConfig("resnet20", "paper", RECIPES["paper"])
    speeds = Speeds({"1 core of it": 1, "2 cores of it": 2})
    speeds.add(config, Progress(hardware="1 core of it", seconds_per_step=0.1, compile_seconds=50.0))
    other_rate = RunConfig("resnet20", "paper", RECIPES["paper"].with_peak(0.3), seed=5)
    assert speeds.seconds_left(other_rate, Progress(), 1000, "1 core of it") == pytest.approx(10 + 50 + 1.05 * 100)
    assert speeds.seconds_left(other_rate, Progress(), 1000, "2 cores of it") == pytest.approx(10 + 50 + 1.05 * 100)
    assert speeds.seconds_left(other_rate, Progress(), 1000, "a GPU") is None
    on_two = Progress(hardware="2 cores of it", seconds_per_step=0.06, compile_seconds=50.0)
    assert speeds.seconds_left(config, on_two, 1000, "2 cores of it") == pytest.approx(10 + 50 + 1.05 * 60)
    assert Speeds({"1 core of it": 1, "2 cores of it": 2}).seconds_left(
        config, on_two, 1000, "1 core of it"
    ) == pytest.approx(10 + 50 + 1.05 * 120)
    resized = RunConfig("resnet20", "paper", RECIPES["paper"].with_values(["image_size=((0, 16), (0.5, 32))"]))
    halfway = Progress(step=400, hardware="1 core of it", seconds_per_step=0.1)  # 100 steps of a quarter of the pixels
    assert speeds.seconds_left(resized, halfway, 1000, "1 core of it", running=True) == pytest.approx(1.05 * 52.5)
    begun = Progress(step=400, resumable=400, hardware="1 core of it", seconds_per_step=0.1, compile_seconds=50.0)
    assert speeds.seconds_left(resized, begun, 1000, "1 core of it") == pytest.approx(10 + 50 + 50 + 1.05 * 52.5)
    larger = RunConfig("resnet20", "paper", RECIPES["paper"].with_values(["batch_size=256"]))
    assert speeds.seconds_left(larger, Progress(), 1000, "1 core of it") is None


def test_the_speed_of_a_run_is_that_of_its_largest_images(tmp_path):
    """100 steps of a quarter of the pixels are 25; then 100 steps of all pixels."""
    values = {"steps": 200, "image_size": [[0, 16], [0.5, 32]]}
    record = {"settings": {"model": "resnet20", "recipe_values": values}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    rows = [(50, 30.0), (100, 35.0), (150, 55.0)]
    lines = ["step,epoch,learning_rate,train_loss,train_error,seconds", *(f"{step},1,0.1,1,1,{s}" for step, s in rows)]
    (tmp_path / "history.csv").write_text("\n".join(lines) + "\n")
    found = read_progress(tmp_path)
    assert (found.step, found.steps, found.seconds_per_step) == (150, 200, pytest.approx(0.4))
    assert found.compile_seconds == pytest.approx(30 - 0.4 * 12.5)
    for wrong in ("24", [[0]], [["x", 3]]):
        values["image_size"] = wrong
        (tmp_path / "run.json").write_text(json.dumps(record))
        with pytest.raises(ValueError, match=r"run\.json is damaged"):
            read_progress(tmp_path)


def test_a_finished_run_that_was_stopped_while_it_exited_is_finished(tmp_path):
    """SIGTERM after the weights were saved, while the interpreter ended."""
    found = jobs.read_jobs(write(tmp_path, job(name="a")), tmp_path / "runs")
    assert run(tmp_path / "jobs.toml", tmp_path / "runs") == 0
    queue = Queue(found, tmp_path / "runs", MACHINE)
    queue._end(queue.entries[0], -signal.SIGTERM)
    assert queue.entries[0].state == "finished" and queue.exit_code() == 0


def test_one_file_is_not_two_datasets(tmp_path):
    """Labels of CIFAR-10 are valid for CIFAR-100, so nothing else would tell."""
    path = write(tmp_path, job(name="a"), job(name="b", dataset="cifar100"))
    (tmp_path / "data.npz").touch()
    with pytest.raises(jobs.JobError) as refusal:
        jobs.read_jobs(path, tmp_path / "runs", {None: str(tmp_path / "data.npz")})
    assert "cifar10 and cifar100" in str(refusal.value) and "--data_dir cifar10=FILE" in str(refusal.value)
    data_dirs = {None: str(tmp_path / "data.npz"), "cifar100": str(tmp_path / "data.npz")}
    assert len(jobs.read_jobs(path, tmp_path / "runs", data_dirs)) == 2


def test_teachers_are_no_weight_files_and_runs_elsewhere_are_finished(tmp_path):
    (tmp_path / "weights.h5").touch()
    begun(tmp_path, "elsewhere", 100, 10.0, 1000, "here")
    unfinished = str(tmp_path / "elsewhere")
    inside = begun(tmp_path / "runs", "before", 100, 10.0, 1000, "here")
    (tmp_path / "runs/weights.h5").touch()
    for table, words in (
        (f'model = "resnet20"\nvalues = {{teacher = "{tmp_path / "runs/weights.h5"}"}}', "teacher="),
        (f'model = "resnet20"\nvalues = {{teacher = "{inside}"}}', "not a finished run.*No job"),
        (job(initial_weights=str(inside)), "not finished.*No job"),
        (f'model = "resnet20"\nvalues = {{teacher = "{tmp_path / "weights.h5"}"}}', "teacher="),
        (f'model = "resnet20"\nvalues = {{teacher = "{unfinished}"}}', "not a finished run"),
        (f'model = "resnet20"\nvalues = {{teacher = "resnet20-cifar10,{unfinished}"}}', "not a finished run"),
        (f'model = "resnet20"\nvalues = {{teacher = ["resnet20-cifar10", "{unfinished}"]}}', "not a finished run"),
        (job(initial_weights=unfinished), "run that is not finished"),
    ):
        with pytest.raises(jobs.JobError, match=words):
            jobs.read_jobs(write(tmp_path, table), tmp_path / "runs")


def test_names_of_weights_are_no_places_below_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = 'model = "resnet32"\nvalues = {teacher = ["resnet20-cifar10@1", "resnet20-cifar10@2"]}'
    for out in (".", ".."):
        (found,) = jobs.read_jobs(write(tmp_path, table), out)
        assert found.config.values.teacher == "resnet20-cifar10@1,resnet20-cifar10@2" and len(found.sources()) == 2


WRONG = {
    "model": ('model = "resnet21"', "job 1: architecture='resnet21'"),
    "no model": ("seeds = 1", "job 1: model is missing"),
    "recipe": ('model = "resnet20"\nrecipe = "quick"', "recipe='quick' must be one of"),
    "value": ('model = "resnet20"\nvalues = {flop = 1}', "recipe value='flop'"),
    "kind of value": ('model = "resnet20"\nvalues = {momentum = "much"}', "recipe value momentum=much"),
    "schedule": ('model = "resnet20"\nvalues = {schedule = [[0.5, 1]]}', "recipe value schedule"),
    "dataset": ('model = "resnet20"\ndataset = "mnist"', "dataset='mnist'"),
    "dataset and recipe": (
        'model = "resnet20"\ndataset = "imagenette"',
        "cannot be used with a recipe that has crop=shift",
    ),
    "dataset without data": ('model = "resnet20"\ndataset = "arrays"', "needs a data_dir"),
    "key": ('model = "resnet20"\nseed = 1', "key='seed'"),
    "kind of key": ('model = "resnet20"\npriority = "high"', "priority='high' must be a whole number"),
    "argument": ('model = "resnet20"\narguments = {shortcut = "gate"}', "shortcut"),
    "argument's name": ('model = "resnet20"\narguments = {depth = 8}', "argument='depth'"),
    "initial weights": (
        'model = "resnet20"\ninitial_weights = "resnet20-cifra10"',
        "initial_weights='resnet20-cifra10'",
    ),
    "teacher": ('model = "resnet20"\nvalues = {teacher = "resnet20-cifra10"}', "did you mean resnet20-cifar10"),
    "teacher's classes": (
        'model = "resnet20"\ndataset = "cifar100"\nvalues = {teacher = "resnet20-cifar10"}',
        "has 10 classes (airplane, automobile, bird, ...), but the run has 100",
    ),
    "cutout": ('model = "resnet20"\nvalues = {cutout = 40}', "cutout=40 exceeds the image size of 32 pixels"),
    "cache": ('model = "resnet20"\ncache = true', "cache has no effect on --dataset cifar10"),
    "place of weights": ('model = "resnet20"\ninitial_weights = "no/such/run"', "initial_weights='no/such/run'"),
    "projection": (
        'model = "resnet20"\narguments = {projection = "A_average"}',
        "projection='A_average' must be one of",
    ),
    "stem": ('model = "resnet20"\narguments = {stem = "cifar_strided"}', "stem='cifar_strided' must be one of"),
    "width": ('model = "resnet20"\narguments = {width = "2"}', "width='2' must be a whole number"),
    "rematerialize": ('model = "resnet20"\nrematerialize = true', "requires rolled=true"),
    "odd": ('model = "resnet20"\nvalues = {mixup = 0.2, batch_size = 5}', "an even number of images"),
    "plain": ('model = "resnet20"\narguments = {shortcut = "none"}\nvalues = {units_per_batch = 3}', "need shortcuts"),
    "schedule in steps": ('model = "resnet20"\nvalues = {schedule = [[0, 1], [32000, 0.1]]}', "from 0 to 1"),
    "image size": ('model = "resnet20"\nvalues = {image_size = [[0, 24], [0.5, 40]]}', "image_size=40 exceeds"),
    "units": ('model = "resnet20"\nvalues = {units_per_batch = 10}', "must be from 1 to 9"),
    "seeds": ('model = "resnet20"\nseeds = 0', "seeds must be"),
    "name": ('model = "resnet20"\nname = "../runs"', "not a plain relative directory"),
    "twice": (
        'model = "resnet20"\n[[job]]\nmodel = "resnet20"',
        "has the directory resnet20-cifar10-paper-seed0",
    ),
    "TOML": ("model = ", "is not TOML"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_job_files_are_one_line_and_nothing_starts(case, tmp_path, capsys):
    table, words = WRONG[case]
    assert run(write(tmp_path, table), tmp_path / "runs") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_bad_places_are_one_line_each(tmp_path, capsys):
    path = write(tmp_path, job(name="a"), job(name="b"))
    assert run(path, tmp_path / "runs", "--data_dir", tmp_path / "nowhere") == 2
    assert capsys.readouterr().err.count("nowhere does not exist") == 2
    assert run(tmp_path / "none.toml", tmp_path / "runs") == 2
    assert "No such file" in capsys.readouterr().err
    begun(tmp_path / "runs", "a-seed0", 100, 10.0, 1000, "here")
    (tmp_path / "runs/b-seed0").mkdir()
    (tmp_path / "runs/b-seed0/checkpoint-00000001.npz").write_bytes(b"")
    assert run(path, tmp_path / "runs") == 2
    lines = capsys.readouterr().err.splitlines()
    assert "contains a run with different recipe_values" in lines[0] and "without run.json" in lines[1]
    assert run(path, tmp_path / "runs", "--unpack", tmp_path) == 2
    assert "contains no sweep-*.zip" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, words", [
    (["--unpack", "x", "--minutes", "5"], "--minutes has no effect without --jobs"),
    (["--jobs", "x.toml", "--pack_mib", "50"], "--pack_mib needs --pack"),
    (["--jobs", "x.toml", "--data_dir", "a", "--data_dir", "b"], "--data_dir a and b are for the same datasets"),
    (["--jobs", "x.toml", "--data_dir", "cifar10=a", "--data_dir", "cifar10=b"], "a and b are for the same datasets"),
])  # fmt: skip
def test_options_without_effect_are_errors(arguments, words, tmp_path, capsys):
    try:
        status = sweep.main([*arguments, "--out", str(tmp_path / "runs")])
    except SystemExit as end:
        status = end.code
    assert status == 2 and words in capsys.readouterr().err


def test_values_of_jobs_are_those_of_flags(tmp_path):
    """TOML lists become tuples; the learning rate scales the schedule; the command contains everything."""
    values = "{learning_rate = 0.2, nesterov = true, schedule = [[0, 1], [0.5, 0.1]]}"
    table = f'model = "resnet20"\nrolled = true\nvalues = {values}'
    (found,) = jobs.read_jobs(write(tmp_path, table), tmp_path / "runs")
    assert found.config.values.schedule == ((0, 0.2), (0.5, pytest.approx(0.02)))
    assert found.config.values.nesterov is True and found.config.forms == ("rolled",)
    command = found.config.command()
    assert "--rolled" in command and "--set nesterov=True" in command
    defaults = 'recipe = "paper"\nvalues = {dtype = "mixed_bfloat16", steps = 7}\npriority = 3'
    path = write(tmp_path, 'model = "resnet20"\nvalues = {steps = 9}', defaults=defaults)
    (found,) = jobs.read_jobs(path, tmp_path / "runs")
    assert (found.config.values.dtype, found.config.values.steps, found.priority) == ("mixed_bfloat16", 9, 3)
    assert found.name == "resnet20-cifar10-paper-steps-9-seed0"


@pytest.mark.parametrize("path", sorted((ROOT / "train/jobs").glob("*.toml")), ids=lambda path: path.name)
def test_the_job_files_here_are_good(path, tmp_path):
    assert len(jobs.read_jobs(path, tmp_path)) > 3


def packed(folder):
    """Members of all archives, without the manifests."""
    found = {}
    for path in folder.glob("sweep-*.zip"):
        with zipfile.ZipFile(path) as archive:
            found.update({name: path.name for name in archive.namelist() if name != "manifest.json"})
    return found


def test_packed_unpacked_elsewhere_and_resumed(tmp_path, capsys):
    """Runs that have progressed further in the target are kept."""
    path = write(tmp_path, job(name="done", steps=3), job(name="long", steps=120, priority=-1))
    here, there, pack = tmp_path / "here", tmp_path / "there", tmp_path / "pack"
    clock = Clock(lambda: is_finished(here / "done-seed0") and newest_checkpoints(here / "long-seed0"))
    assert run(path, here, "--minutes", 1, "--at_once", 2, "--pack", pack, clock=clock) == 143
    assert states(here) == {"done-seed0": "finished", "long-seed0": "stopped"}
    step = read_checkpoint_meta(newest_checkpoints(here / "long-seed0")[0])["step"]
    wanted = {"done-seed0/run.json", "done-seed0/history.csv", "done-seed0/weights.h5", "done-seed0/train.log"}
    wanted |= {"long-seed0/run.json", "long-seed0/train.log", f"long-seed0/checkpoint-{step:08d}.npz"}
    assert set(packed(pack)) == wanted and set(packed(pack).values()) == {"sweep-0.zip"}
    assert not list(pack.glob("*.part"))
    assert run(path, there, "--pack", pack) == 2  # would lose what is packed
    assert "which would be lost" in capsys.readouterr().err
    assert run(path, there, "--unpack", pack, "--pack", pack) == 0
    assert (there / "done-seed0/train.log").read_text().count("affinity") == 1  # not trained again
    assert (there / "long-seed0/train.log").read_text().count("affinity") == 2  # but this one went on
    weights = (there / "long-seed0/weights.h5").read_bytes()
    assert "long-seed0/weights.h5" in packed(pack)
    assert sweep.main(["--unpack", str(pack), "--out", str(here)]) == 0
    assert (here / "long-seed0/weights.h5").read_bytes() == weights
    capsys.readouterr()
    assert sweep.main(["--unpack", str(pack), "--out", str(here)]) == 0
    assert "nothing: no run has progressed further" in capsys.readouterr().out


def test_older_local_runs_do_not_replace_what_is_packed(tmp_path, capsys):
    path, out, pack = write(tmp_path, job(name="a", steps=200)), tmp_path / "runs", tmp_path / "pack"
    clock = Clock(lambda: len(newest_checkpoints(out / "a-seed0")) > 1)
    assert run(path, out, "--minutes", 1, "--pack", pack, clock=clock) == 143
    step = max(int(name.split("-")[-1][:8]) for name in packed(pack) if "checkpoint" in name)
    older = out / "a-seed0"
    for checkpoint in newest_checkpoints(older):
        checkpoint.rename(older / "checkpoint-00000001.npz")
    assert step > 1 and run(path, out, "--minutes", 1, "--pack", pack) == 2
    assert "contains a-seed0, which would be lost: --unpack it first" in capsys.readouterr().err
    assert f"a-seed0/checkpoint-{step:08d}.npz" in packed(pack)


def test_a_killed_packing_keeps_a_divided_run(tmp_path, monkeypatch):
    """Its parts lie in several archives, which are renamed together."""
    mib = archives.MIB
    out, pack = tmp_path / "out", tmp_path / "pack"
    fill(out, {"large": 3 * mib})
    packer = archives.Packer(pack, out, archives=3, archive_bytes=2 * mib)
    packer.pack([("large", False)])
    before = (out / "large/checkpoint-00000010.npz").read_bytes()
    (out / "large/checkpoint-00000010.npz").rename(out / "large/checkpoint-00000020.npz")
    add, added = archives._add, []

    def killed(*arguments):
        added.append(arguments)
        if len(added) > 2:
            raise KeyboardInterrupt
        return add(*arguments)

    monkeypatch.setattr(archives, "_add", killed)
    with pytest.raises(KeyboardInterrupt):
        packer.pack([("large", False)])
    assert unpacking.unpack(pack, tmp_path / "elsewhere") == (["large"], [])
    assert (tmp_path / "elsewhere/large/checkpoint-00000010.npz").read_bytes() == before


def fill(out, sizes):
    """Creates directories of runs with checkpoints of given sizes."""
    rng = np.random.default_rng(0)
    for name, size in sizes.items():
        (out / name).mkdir(parents=True)
        (out / name / "run.json").write_text(json.dumps({"settings": {"model": name, "recipe_values": {}}}))
        (out / name / "checkpoint-00000010.npz").write_bytes(rng.bytes(size))


def test_archives_are_limited_and_large_files_are_divided(tmp_path):
    mib = archives.MIB
    out, pack, elsewhere = tmp_path / "out", tmp_path / "pack", tmp_path / "elsewhere"
    fill(out, {"one": mib, "large": 3 * mib, "two": mib, "rest": 3 * mib // 2, "small": 1000})
    packer = archives.Packer(pack, out, archives=3, archive_bytes=2 * mib)
    runs = [(name, False) for name in ("one", "large", "two", "rest", "small")]
    # One MiB, then three in parts, leave room for one more in the third archive, and not for one and a half.
    assert packer.pack(runs) == ["rest"]
    assert max(path.stat().st_size for path in pack.iterdir()) <= 2 * mib and len(list(pack.iterdir())) == 3
    written, problems = unpacking.unpack(pack, elsewhere)
    assert written == ["large", "one", "small", "two"] and problems == []
    for name in written:
        for path in (out / name).iterdir():
            assert (elsewhere / name / path.name).read_bytes() == path.read_bytes()
    stamps = {path: path.stat().st_mtime_ns for path in pack.iterdir()}
    packer.pack(runs)
    assert stamps == {path: path.stat().st_mtime_ns for path in pack.iterdir()}  # nothing changed
    limited = archives.Packer(pack, out, total_bytes=2 * mib, archives=3)
    assert limited.pack(runs) == ["large", "two", "rest"]
    assert [path.name for path in pack.iterdir()] == ["sweep-0.zip"]


def test_a_full_disk_keeps_the_archives_before(tmp_path, monkeypatch, capsys):
    pack, path = tmp_path / "pack", write(tmp_path, job(name="a", steps=3), job(name="b", steps=3))
    assert run(path, tmp_path / "runs", "--pack", pack) == 0
    before = (pack / "sweep-0.zip").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    path = write(tmp_path, *(job(name=name, steps=3) for name in "abc"))
    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    assert run(path, tmp_path / "runs", "--pack", pack) == 0  # the run is done, all the same
    printed = capsys.readouterr().out
    assert printed.count("warning: ") == 1 and "is full" in printed
    assert (pack / "sweep-0.zip").read_bytes() == before and len(list(pack.iterdir())) == 1


def archive(folder, name, entries, compression=zipfile.ZIP_STORED, content=b"{}"):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / name, "w", compression) as file:
        for entry in entries:
            file.writestr(entry["member"], content)
        file.writestr("manifest.json", json.dumps({"members": entries}))


def entry(run, name, **changes):
    sha256 = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of {}
    entry = {"member": f"{run}/{name}", "run": run, "name": name, "size": 2, "sha256": sha256, "offset": 0, "length": 2}
    return {**entry, **changes}


BAD_ENTRIES = {
    "up": entry("..", "run.json"),
    "absolute": entry("/tmp/run", "run.json"),
    "hidden": entry(".ssh", "run.json"),
    "another file": entry("run", "setup.py"),
    "path in name": entry("run", "../run.json"),
    "size": entry("run", "run.json", size=3, length=3),
    "negative": entry("run", "run.json", offset=-2),
    "type": entry("run", "run.json", size="2"),
}


@pytest.mark.parametrize("case", BAD_ENTRIES)
def test_archives_write_nothing_but_runs(case, tmp_path):
    archive(tmp_path / "pack", "sweep-0.zip", [BAD_ENTRIES[case]])
    written, problems = unpacking.unpack(tmp_path / "pack", tmp_path / "out/runs")
    assert written == [] and len(problems) == 1 and "sweep-0.zip is damaged" in problems[0]
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert found == {"pack", "pack/sweep-0.zip", "out", "out/runs"}


def test_damaged_archives_and_links_do_not_affect_other_archives(tmp_path):
    out, pack = tmp_path / "out", tmp_path / "pack"
    fill(out, {"good": 1000, "linked": 1000, "torn": 1000})
    packer = archives.Packer(pack, out)
    packer.pack([(name, False) for name in ("good", "linked", "torn")])
    data = bytearray((pack / "sweep-0.zip").read_bytes())
    at = data.index((out / "torn/checkpoint-00000010.npz").read_bytes())
    data[at] ^= 1
    (pack / "sweep-0.zip").write_bytes(data)
    (pack / "sweep-1.zip").write_bytes(data[:500])
    archive(pack, "sweep-2.zip", [entry("bomb", "run.json")], zipfile.ZIP_DEFLATED)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "outside").mkdir()
    (elsewhere / "linked").symlink_to(tmp_path / "outside")
    written, problems = unpacking.unpack(pack, elsewhere)
    assert written == ["good"] and not list((tmp_path / "outside").iterdir())
    text = "\n".join(problems)
    assert (
        len(problems) == 4 and "sweep-1.zip is damaged" in text and "sweep-2.zip is damaged: it is compressed" in text
    )
    assert "linked is a link to outside of" in text and "torn: checkpoint-00000010.npz is damaged" in text


def test_a_terminal_gets_one_table(tmp_path):
    begun(tmp_path, "a-seed0", 100, 10.0, 200, MACHINE.hardware(len(CORES)))
    found = jobs.read_jobs(write(tmp_path, job(name="a", steps=200), job(name="b", steps=7)), tmp_path)
    console = Console(record=True, force_terminal=True, width=140, height=40)
    with Display(tmp_path, console) as display:
        display.show(Queue(found, tmp_path, MACHINE, at_once=1, seconds=6000))
    text = console.export_text()
    assert "2 waiting; 1 at once" in text
    row = next(line for line in text.splitlines() if "a-seed0" in line)
    assert [cell.strip() for cell in row.split("│")[1:-2]] == ["a-seed0", "waiting", "100 of 200", "1,280", "", "20 s"]
    assert status(tmp_path)["b-seed0"]["steps"] == "7"


def test_messages_with_brackets_are_shown_as_they_are(tmp_path):
    """TensorFlow names devices so; rich takes brackets as markup."""
    found = jobs.read_jobs(write(tmp_path, job(name="a", steps=200)), tmp_path)
    console, message = Console(record=True, force_terminal=True, width=200), "no memory [/job:worker/device:GPU:0] [b]"
    with Display(tmp_path, console) as display:
        queue = Queue(found, tmp_path, MACHINE, at_once=1, seconds=6000)
        queue.entries[0].message = message
        display.show(queue)
    assert message in console.export_text()


def test_real_runs_moved_elsewhere_end_with_the_same_bits(digits, tmp_path, monkeypatch):
    """The queue with `train.train`: stopped, packed, unpacked elsewhere, with the result of an uninterrupted run."""
    (x_train, y_train), (x_test, y_test) = digits
    data = tmp_path / "digits.npz"
    np.savez(data, x_train=x_train[:200], y_train=y_train[:200], x_test=x_test[:50], y_test=y_test[:50])
    values = 'values = {steps = 200, batch_size = 20, dtype = "float32"}\nevaluate_every = 3\ncheckpoint_seconds = 0'
    path = write(tmp_path, f'model = "resnet8"\nname = "digits"\n{values}', defaults='recipe = "fast"')
    monkeypatch.setitem(ARCHITECTURES, "resnet8", ROW)
    program = (sys.executable, str(ROOT / "tests/helpers/with_resnet8.py"), "train.train")
    machine = Machine((), "a processor", MACHINE.cores[:1])

    def real(out, *more):
        flags = ["--jobs", path, "--out", tmp_path / out, "--data_dir", data, *more]
        return sweep.main([str(flag) for flag in flags], program=program, machine=machine)

    whole, here, there = (tmp_path / out / "digits-seed0" for out in ("whole", "here", "there"))
    config = jobs.read_jobs(path, tmp_path / "whole", {None: data})[0].config
    uninterrupted = subprocess.Popen([*program, *config.flags(places=True)], cwd=ROOT, stdout=subprocess.DEVNULL)
    code = """
import os, pathlib, sys, time
while not any(int(path.stem[-8:]) >= 10 for path in pathlib.Path(sys.argv[1]).glob("checkpoint-*.npz")):
    time.sleep(0.02)
os.kill(int(sys.argv[2]), 15)
"""
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)  # if the run ends first
    watcher = subprocess.Popen([sys.executable, "-c", code, str(here), str(os.getpid())])
    try:
        assert real("here", "--pack", tmp_path / "pack") == 143
        assert 10 <= read_checkpoint_meta(newest_checkpoints(here)[0])["step"] < 200
        assert real("there", "--unpack", tmp_path / "pack") == 0
        assert uninterrupted.wait(300) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in (watcher, uninterrupted):
            process.kill()
            process.wait()
    resumed = (there / "train.log").read_text().split("stopped after step")[1]
    assert "epoch  20" in resumed and "epoch   1" not in resumed
    one, other = (read_weights(run / "weights.h5") for run in (whole, there))
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])
    commands = [json.loads((run / "run.json").read_text())["command"] for run in (whole, there)]
    assert commands[0] == commands[1] and "--model resnet8 --recipe fast --steps 200" in commands[0]
