from fractions import Fraction

import pytest

from microopt.errors import PermanentError
from microopt_actuator.drivers.kubernetes_pod import quantity
from microopt_actuator.drivers.kubernetes_target import PodTarget, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("core/pod/upf-0/upf", PodTarget("core", "upf", pod="upf-0")),
        ("5g/pod/upf.1-a/n4-agent", PodTarget("5g", "n4-agent", pod="upf.1-a")),
        ("core/app=upf/upf", PodTarget("core", "upf", selector="app=upf")),
        ("core/app=upf,slice=1-000001/upf", PodTarget("core", "upf", selector="app=upf,slice=1-000001")),
        (
            "core/app.kubernetes.io/name=upf,x=Y_1/upf",
            PodTarget("core", "upf", selector="app.kubernetes.io/name=upf,x=Y_1"),
        ),
    ],
)
def test_a_target_names_a_container_in_one_pod_or_in_all_with_certain_labels(text: str, target: PodTarget):
    assert parse_target(text) == target
    assert str(target) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is no namespace's name"),
        ("core", "'' is no container's name"),
        ("core/upf", "'' is neither pod/<name> nor a label selector"),
        ("core/pod/upf", "'pod' is neither pod/<name> nor"),
        ("core/pod//upf", "'pod/' is neither"),
        ("core/deployment/upf/upf", "'deployment/upf' is neither"),
        ("core/pod/../upf", "'pod/..' is neither"),
        ("core/pod/a/b/upf", "'pod/a/b' is neither"),
        ("core/pod/upf?x/upf", "is neither"),
        ("Core/pod/upf-0/upf", "'Core' is no namespace's name"),
        ("core/pod/upf-0/upf\n", "is no container's name"),
        ("core/pod/upf-0/", "'' is no container's name"),
        ("core/app=/upf", "'app=' is no <label>=<value>"),
        ("core/app==upf/upf", "'app==upf' is no"),
        ("core/app!=upf/upf", "'app!=upf' is no"),
        ("core/app=upf,/upf", "'' is no <label>=<value>"),
        ("core//app=upf/upf", "'/app=upf' is no"),
        ("core/app=upf&limit=1/upf", "is no <label>=<value>"),
        ("x" * 1001, "longer than 1000"),
    ],
)
def test_what_is_no_target_is_refused_with_the_notation(text: str, why: str):
    with pytest.raises(
        PermanentError, match=f"{why}.*write <namespace>/pod/<name>/<container> as core/pod/upf-0/upf"
    ):
        parse_target(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250m", Fraction(1, 4)),
        ("0", 0),
        ("2", 2),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("100u", Fraction(1, 10_000)),
        ("3n", Fraction(3, 10**9)),
        ("2k", 2000),
        ("2Ki", 2048),
        ("1.5Gi", 3 * 2**29),
        ("1E", 10**18),
        ("1e3", 1000),
        ("25E-1", Fraction(5, 2)),
    ],
)
def test_a_quantity_is_read_exactly(text: str, value: Fraction):
    assert quantity(text) == value


@pytest.mark.parametrize(
    "text", ["", "m", "1 m", "1mm", "1ki", "0x10", "NaN", "inf", "1e", "1e100", "१", "9" * 41]
)
def test_what_is_no_quantity_is_refused(text: str):
    with pytest.raises(PermanentError, match="is no quantity"):
        quantity(text)
