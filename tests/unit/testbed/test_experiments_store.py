"""What was computed before is found again, and nothing else is taken for it."""

import math

import pytest
from rich.console import Console

from microopt.errors import ConfigError
from microopt_testbed.experiments.fingerprint import code_digest
from microopt_testbed.experiments.runner import Job, Runner
from microopt_testbed.experiments.settings import Setting
from microopt_testbed.experiments.store import FILE, Outcome, Store

SETTING = Setting((3.0,), (1.0,), 4.0, 0.1)


def outcome(cost=1.0, beta=0.05):
    return Outcome(
        approach="microopt",
        setting=SETTING,
        allocation={"gnb_cpu": 1000.0},
        cost=cost,
        expected_degradation=beta,
        status="optimal",
        solve_s=0.1,
    )


def job(**changes):
    base = {
        "approach": "microopt",
        "setting": SETTING,
        "model_path": "somewhere",
        "model_digest": "m",
        "code": "c",
        "grid_points": 10,
    }
    return Job(**{**base, **changes})


def test_an_outcome_is_there_for_the_next_process(tmp_path):
    Store(tmp_path).put("k", outcome())
    assert Store(tmp_path).get("k") == outcome()


def test_a_line_cut_off_by_an_interruption_is_lost_alone(tmp_path):
    store = Store(tmp_path)
    store.put("a", outcome(1.0))
    store.put("b", outcome(2.0))
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-40])
    resumed = Store(tmp_path)
    assert "a" in resumed
    assert "b" not in resumed
    resumed.put("c", outcome(3.0))
    again = Store(tmp_path)
    assert again.get("a").cost == 1.0
    assert again.get("c").cost == 3.0


def test_a_later_line_replaces_an_earlier_one_of_the_same_key(tmp_path):
    Store(tmp_path).put("a", outcome(1.0))
    Store(tmp_path).put("a", outcome(2.0))
    assert Store(tmp_path).get("a").cost == 2.0


def test_a_store_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(ConfigError, match=FILE):
        Store(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"approach": "peak"},
        {"setting": Setting((3.0,), (1.0,), 4.0, 0.2)},
        {"model_digest": "other"},
        {"code": "other"},
    ],
)
def test_whatever_an_outcome_depends_on_changes_its_key(change):
    assert job(**change).key != job().key


def test_where_a_model_lies_does_not_matter_and_the_grid_matters_to_the_oracle_alone():
    assert job(model_path="elsewhere", grid_points=20).key == job().key
    assert job(approach="oracle", grid_points=20).key != job(approach="oracle").key


def test_an_outcome_holds_its_sla_exactly_up_to_the_threshold():
    assert outcome(beta=0.1).holds
    assert not outcome(beta=0.1 + 1e-12).holds


def test_a_task_that_fails_is_named_and_the_others_are_kept():
    kept = {}
    with pytest.raises(ConfigError, match=r"1 of 3 failed(?s:.*)-1: ValueError"):
        Runner(1, Console(quiet=True)).each(math.isqrt, [4, -1, 9], kept.__setitem__, title="roots")
    assert kept == {4: 2, 9: 3}


def test_a_modules_digest_follows_its_code_and_that_of_what_it_imports(tmp_path, monkeypatch):
    package = tmp_path / "microopt_testbed_probe"
    monkeypatch.setattr("microopt_testbed.experiments.fingerprint._OURS", ("microopt_testbed_probe.",))
    monkeypatch.syspath_prepend(tmp_path)

    def digest(first, second):
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "a.py").write_text(first)
        (package / "b.py").write_text(second)
        code_digest.cache_clear()
        return code_digest("microopt_testbed_probe.a")

    source = "from microopt_testbed_probe import b\nX = b.Y\n"
    same = digest(source, "Y = 1\n")
    assert digest(source, '"""What it says."""\n\nY = 1  # and why\n') == same
    assert digest(source, "Y = 2\n") != same
    assert digest(source + "X = X + 1\n", "Y = 1\n") != same
    code_digest.cache_clear()
