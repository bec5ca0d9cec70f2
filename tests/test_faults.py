"""A few rounds of the fault campaign, so that the suite notices when it breaks; `make test-faults` does the whole."""

import importlib
import json
import random
import re
import sys
from pathlib import Path

import pytest

from tests.faults import __main__ as campaign
from tests.faults.harness import FAULTS, Fault, Tally

MODULES = ("damage", "jobs", "kills", "reports", "servers", "signals", "stores", "twins")
for name in MODULES:
    importlib.import_module(f"tests.faults.{name}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rounds"),
    [("SIGTERM, SIGINT", 1), ("damage: spools", 5), ("a run launched twice at once", 1)],
)
def test_a_round(name, rounds):
    (fault,) = (fault for fault in FAULTS if fault.name == name)
    tally = Tally(fault.name, fault.bar)
    fault.act(tally, rounds, random.Random(0))
    assert tally.ok, tally.notes
    assert tally.rounds >= rounds


def test_every_fault_has_a_name_of_its_own_and_a_bar():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) > 30
    assert all(fault.bar and fault.rounds(20) <= fault.rounds(200) for fault in FAULTS)


def act(tally, rounds, draw):
    """A fault of which every third round is lost."""
    for index in range(rounds):
        tally.count(["gone"] if index % 3 == 2 else [], seconds=index)
        tally.most("worst of all", index)
        tally.add("tried")


def test_a_campaign_is_gone_on_with(tmp_path, capsys):
    """What the file beside the table holds is not done again; counts add up and the worst stays."""
    out, fault = tmp_path / "faults.md", Fault("a fault", "all survive", act, 1.0, 100)
    first = campaign.inject(fault, 12, 0, out)
    assert (first.rounds, first.survived, first.worst) == (12, 9, 9.0)
    assert [json.loads(line)["asked"] for line in out.with_suffix(".jsonl").read_text().splitlines()] == [10, 2]
    again = campaign.inject(fault, 20, 0, out)
    assert (again.rounds, again.survived, again.worst, again.facts) == (20, 15, 9.0, {"worst of all": 9, "tried": 20})
    assert not again.ok
    assert len(out.with_suffix(".jsonl").read_text().splitlines()) == 3
    assert campaign.inject(fault, 20, 0, out) == again
    assert "| a fault | 20 | 15 | 0 | 9.0 s | all survive; worst of all: 9; tried: 20 | NO |" in campaign.table(
        [again], plain=False
    )


def test_a_fault_that_breaks_counts_against_itself():
    def broken(tally, rounds, draw):
        raise RuntimeError("no luck")

    tally = campaign.inject(Fault("a fault", "all survive", broken, 1.0, 100), 3, 0, None)
    assert not tally.ok
    assert "no luck" in tally.notes[0]


def test_the_command_lists_its_faults(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["faults", "--list"])
    assert not campaign.main()
    assert len(capsys.readouterr().out.splitlines()) == len(FAULTS)
    folder = Path(campaign.__file__).parent
    having = {path.stem for path in folder.glob("*.py") if re.search(r"^@fault\b", path.read_text(), re.MULTILINE)}
    (imported,) = re.findall(r"from tests\.faults import ([\w, ]+)", Path(campaign.__file__).read_text())
    assert set(imported.strip().split(", ")) == having == set(MODULES), (
        "those of the command, of the files and of this test"
    )
