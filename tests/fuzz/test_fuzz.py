"""1,000 fixed cases of the fuzzer; `python tests/fuzz/fuzz.py --cases N --seed S` runs more and different ones."""

import pytest

import fuzz

CASES = {"Cards": 300, "WeightFiles": 250, "ForeignFiles": 150, "Structures": 150, "Images": 150}


@pytest.mark.parametrize("kind", CASES)
def test_changed_files_are_refused_or_harmless(kind):
    refused = fuzz.run(kind, CASES[kind], seed=0)
    assert kind == "Structures" or 0.3 * CASES[kind] < refused  # else the changes change nothing


def test_there_are_a_thousand():
    assert sum(CASES.values()) == 1000 and CASES.keys() == fuzz.KINDS.keys()
