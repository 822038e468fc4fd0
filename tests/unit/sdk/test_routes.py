"""What an operator may ask of a route, and how it is told."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from microopt import route_text, routes
from microopt.errors import ConfigError
from microopt.route_store import Revision, former
from microopt.specs import Canary, Criteria, Route

ROUTE = Route(pool="edge", active="one", shadows=("two", "three"), fallbacks=("peak",))
SLICES = [f"1-{n:06x}" for n in range(40)]


def test_a_swap_keeps_all_else_and_takes_the_new_one_from_the_shadows():
    route = replace(ROUTE, exceptions={"1": "atlas"}, mode="no-shrink")
    assert routes.with_active(route, "edge", "two") == replace(route, active="two", shadows=("three",))
    back = routes.with_active(routes.with_active(ROUTE, "edge", "peak"), "edge", "one")
    assert back.fallbacks == ("peak",)
    assert routes.with_active(None, "edge", "one") == Route(pool="edge", active="one")


def test_a_canary_that_becomes_active_is_on_probation_no_more_and_another_stays():
    route = replace(ROUTE, canary=Canary(optimizer="two", share=0.5))
    assert routes.with_active(route, "edge", "two").canary is None
    assert routes.with_active(route, "edge", "four").canary == route.canary
    expected = replace(ROUTE, active="two", shadows=("three",), fallbacks=("one", *ROUTE.fallbacks))
    assert routes.promoted(route) == expected
    with pytest.raises(ConfigError, match="pool edge has no canary; `microopt route set edge OPTIMIZER`"):
        routes.promoted(ROUTE)


def test_exceptions_are_made_and_removed_for_single_slices():
    route = routes.with_exceptions(ROUTE, ["1", "2"], "atlas")
    assert [route.optimizer_of(s) for s in ("1", "2", "3")] == ["atlas", "atlas", "one"]
    assert routes.with_exceptions(route, ["2"], None).exceptions == {"1": "atlas"}
    with pytest.raises(ConfigError, match="pool edge has no exception for slice 3; there are: 1, 2"):
        routes.with_exceptions(route, ["3"], None)


def test_shadows_are_added_once_and_removed_by_name():
    assert routes.with_shadows(ROUTE, ["four", "two", "four"]).shadows == ("two", "three", "four")
    assert routes.without_shadows(ROUTE, ["two"]).shadows == ("three",)
    with pytest.raises(ConfigError, match="pool edge has no shadow four; there are: three, two"):
        routes.without_shadows(ROUTE, ["four"])
    with pytest.raises(ConfigError, match="one is active, and cannot be its own shadow"):
        routes.with_shadows(ROUTE, ["one"])


def test_fallbacks_are_replaced_in_order():
    assert routes.with_fallbacks(ROUTE, ["two", "peak"]).fallbacks == ("two", "peak")
    assert routes.with_fallbacks(ROUTE, []).fallbacks == ()
    with pytest.raises(ConfigError, match="fallbacks peak, peak: name each once"):
        routes.with_fallbacks(ROUTE, ["peak", "peak"])
    with pytest.raises(ConfigError, match="one is active, and cannot stand in for itself"):
        routes.with_fallbacks(ROUTE, ["peak", "one"])


def test_a_canary_has_the_slices_that_its_share_takes_in_less_the_exceptions():
    canary = Canary(optimizer="two", share=0.3)
    taken = [s for s in SLICES if canary.has(s)]
    assert 0 < len(taken) < len(SLICES)
    excepted = routes.with_exceptions(ROUTE, taken[:1], "atlas")
    assert routes.canary_slices(routes.with_canary(ROUTE, canary, SLICES), SLICES) == taken
    assert routes.canary_slices(routes.with_canary(excepted, canary, SLICES), SLICES) == taken[1:]
    grown = routes.with_canary(routes.with_canary(ROUTE, canary, SLICES), replace(canary, share=0.6), SLICES)
    assert set(taken) < set(routes.canary_slices(grown, SLICES))


@pytest.mark.parametrize(
    ("route", "canary", "said"),
    [
        (ROUTE, Canary(optimizer="one", share=1.0), "one is active already"),
        (
            replace(ROUTE, canary=Canary(optimizer="three", share=0.5)),
            Canary(optimizer="two", share=1.0),
            "has the canary three; end it first: `microopt route promote edge` or `microopt route rollback edge`",
        ),
        (ROUTE, Canary(optimizer="two", share=1e-9), "share of 1e-09 takes in none of its 40 slices"),
        (
            replace(ROUTE, exceptions={SLICES[0]: "atlas"}),
            Canary(optimizer="two", slices=(SLICES[0],)),
            "exception for atlas, which goes before a canary; remove it: `microopt route set edge - --slice "
            f"{SLICES[0]}`",
        ),
    ],
)  # fmt: skip
def test_a_canary_that_could_not_be_judged_is_refused(route, canary, said):
    with pytest.raises(ConfigError) as error:
        routes.with_canary(route, canary, SLICES)
    assert said in str(error.value)


def test_a_mode_is_the_pools_or_a_slices_own():
    own = routes.with_mode(ROUTE, "frozen", ["1"])
    assert [own.mode_of(s) for s in ("1", "2")] == ["frozen", "apply"]
    pool = routes.with_mode(own, "no-shrink")
    assert [pool.mode_of(s) for s in ("1", "2")] == ["frozen", "no-shrink"]
    assert routes.with_mode(own, "apply", ["1"]) == ROUTE


def test_what_is_applied_again_follows_the_pools_next_mode():
    frozen = routes.with_mode(ROUTE, "frozen")
    apart = routes.unfrozen(frozen, ["1"])
    assert [apart.mode_of(s) for s in ("1", "2")] == ["apply", "frozen"]
    again = routes.with_mode(routes.unfrozen(apart), "frozen")
    assert again == frozen


def test_a_slice_that_was_frozen_by_itself_follows_its_pool_again():
    concert = routes.with_mode(routes.with_mode(ROUTE, "frozen", ["1"]), "no-shrink")
    freed = routes.unfrozen(concert, ["1"])
    assert [freed.mode_of(s) for s in ("1", "2")] == ["no-shrink", "no-shrink"]
    excepted = routes.unfrozen(freed, ["1"])
    assert [excepted.mode_of(s) for s in ("1", "2")] == ["apply", "no-shrink"]
    advised = routes.with_mode(routes.with_mode(ROUTE, "frozen", ["1"]), "recommend")
    assert routes.unfrozen(advised, ["1"]).mode_of("1") == "recommend"


def test_what_is_only_recommended_for_is_not_frozen_and_so_not_applied_by_unfreezing():
    pool = routes.with_mode(ROUTE, "recommend")
    said = r"pool edge is only recommended for, .* `microopt route mode edge frozen`$"
    with pytest.raises(ConfigError, match=said):
        routes.frozen(pool, "frozen")
    with pytest.raises(ConfigError, match=r"slice 2 is only .* `microopt route mode edge no-shrink --slice 2`$"):
        routes.frozen(pool, "no-shrink", ["2"])
    assert routes.frozen(routes.with_mode(ROUTE, "recommend", ["1"]), "frozen").mode == "frozen"


def test_what_is_not_frozen_cannot_be_unfrozen():
    with pytest.raises(ConfigError, match=r"pool edge is not frozen: its mode is recommend$"):
        routes.unfrozen(routes.with_mode(ROUTE, "recommend"))
    with pytest.raises(ConfigError, match=r"slice 2 is not frozen: its mode is apply$"):
        routes.unfrozen(routes.with_mode(ROUTE, "frozen", ["1"]), ["2"])
    with pytest.raises(ConfigError, match="its mode is apply; of its slices, 1 are: name them with --slice"):
        routes.unfrozen(routes.with_mode(ROUTE, "no-shrink", ["1"]))


def test_every_optimizer_that_a_route_names_has_its_roles():
    route = replace(ROUTE, canary=Canary(optimizer="two", share=0.5), exceptions={"1": "peak", "2": "peak"})
    assert routes.roles(route) == {
        "one": ["active"],
        "two": ["canary", "shadow"],
        "peak": ["exception", "fallback"],
        "three": ["shadow"],
    }


def test_a_change_is_told_by_what_it_changed():
    canary = Canary(optimizer="four", share=0.1, criteria=Criteria(cost_ratio=0.95))
    changed = Route(
        pool="edge", active="four", shadows=("three",), fallbacks=("peak", "one"),
        exceptions={"1": "atlas"}, mode="frozen", modes={"2": "recommend"},
    )  # fmt: skip
    assert route_text.changes(ROUTE, changed) == [
        "active one → four",
        "shadow − two",
        "fallbacks peak → peak, one",
        "slice 1: - → atlas",
        "mode apply → frozen",
        "slice 2: mode - → recommend",
    ]
    assert route_text.changes(ROUTE, replace(ROUTE, canary=canary)) == [
        "canary four for 10 % of the slices, 24 intervals",
        "criteria cost ≤ 0.95 × the active's, intervals unfulfilled ≤ 10 %, answers failed ≤ 5 %, "
        "95 % of answers within 1 s",
    ]
    assert route_text.changes(replace(ROUTE, canary=canary), ROUTE) == ["canary four ended"]
    assert route_text.changes(ROUTE, replace(ROUTE, shadows=("three", "two"))) == [
        "shadows in the order three, two"
    ]
    assert route_text.changes(None, ROUTE) == [
        "new: active one",
        "shadow + two",
        "shadow + three",
        "fallbacks - → peak",
    ]
    assert route_text.changes(ROUTE, replace(ROUTE, reason="x", changed_at=datetime.now(UTC))) == []


def revision(number: int, **changes) -> Revision:
    return Revision("edge", number, replace(ROUTE, reason=str(number), **changes))


def test_a_rollback_goes_to_the_newest_revision_that_differs_and_starts_no_canary_again():
    canary = Canary(optimizer="two", share=0.5)
    promoted = revision(9, active="two")
    kept = [
        promoted,
        revision(7, canary=canary),
        Revision("edge", 6, error="junk"),
        revision(4),
        revision(2, active="x"),
    ]
    assert former(promoted, kept).number == 7
    assert routes.content(routes.rolled_back(kept[1].route)) == routes.content(ROUTE)
    assert former(kept[1], kept).number == 4
    assert former(kept[3], kept).number == 2
    assert former(promoted, kept, 2).number == 2
    for number, said in [(None, "no former route that differs; former revisions: none"), (6, "of revision 6")]:
        with pytest.raises(ConfigError, match=said):
            former(kept[-1] if number is None else promoted, kept, number)


def test_what_was_removed_comes_back_by_a_rollback():
    removed = Revision("edge", 5)
    assert former(removed, [removed, revision(4)]).number == 4
