"""What `microopt actuator check` says of bindings."""

from microopt.specs import PoolSpec, ResourceSpec
from microopt_actuator.bindings import Binding, Bindings
from microopt_actuator.check.report import lines
from microopt_actuator.check.run import check
from microopt_actuator.drivers.base import Access

CPU, BANDWIDTH = "gnb_cpu", "transport_bandwidth"


def bound(resource="*"):
    return Bindings(
        [Binding(slice="*", resource=resource, driver="shelf", target="{slice}.{resource}")], {"shelf"}
    )


async def looked(shelf, spec, *, bindings=None, pools=None, allocated=None):
    return await check(bindings or bound(), {"shelf": shelf}, [spec("1")], pools or {}, {"1": allocated or {}})


async def test_what_is_in_force_and_what_would_be_written_is_said_and_nothing_is_written(make_shelf, spec):
    shelf = make_shelf({"1.gnb_cpu": 700.0, "1.transport_bandwidth": 20.0})
    report = await looked(shelf, spec, allocated={CPU: 900.0, BANDWIDTH: 20.0})
    assert shelf.writes == []
    assert report.ok
    assert list(lines(report)) == [
        "slice 1",
        "  ✓ gnb_cpu: shelf 1.gnb_cpu",
        "      in force    700",
        "      writable    unknown: only a write would show",
        "      allocated   900",
        "      would write 1.gnb_cpu = 900",
        "  ✓ transport_bandwidth: shelf 1.transport_bandwidth",
        "      in force    20",
        "      writable    unknown: only a write would show",
        "      allocated   20",
        "",
        "2 of 2 resources are bound here; 2 of them can be held",
    ]


def probing(shelf, *answers):
    """Let a shelf say of one target after the other whether it can be written."""
    said = iter(answers)

    async def access(_):
        return next(said)

    shelf.access = access
    return shelf


async def test_a_target_that_cannot_be_written_is_no_target_that_can_be_held(make_shelf, spec):
    shelf = make_shelf({"1.gnb_cpu": 700.0, "1.transport_bandwidth": 20.0})
    answers = Access(writable=False, why="mount it read-write"), Access(writable=True)
    report = await looked(probing(shelf, *answers), spec, allocated={CPU: 900.0})
    assert not report.ok
    assert list(lines(report)) == [
        "slice 1",
        "  ✗ gnb_cpu: shelf 1.gnb_cpu",
        "      in force    700",
        "      writable    no: mount it read-write",
        "      allocated   900",
        "      would write 1.gnb_cpu = 900",
        "  ✓ transport_bandwidth: shelf 1.transport_bandwidth",
        "      in force    20",
        "      writable    yes",
        "",
        "2 of 2 resources are bound here; 1 of them can be held",
    ]


async def test_what_only_a_write_would_show_is_no_error(make_shelf, spec):
    shelf = probing(make_shelf({"1.gnb_cpu": 700.0}), Access(writable=None, why="who knows"))
    report = await looked(shelf, spec, bindings=bound(CPU))
    assert report.ok
    assert "      writable    unknown: who knows" in lines(report)


async def test_a_target_that_cannot_be_read_is_not_said_to_be_writable(make_shelf, spec):
    shelf = probing(make_shelf({"1.gnb_cpu": 700.0}), Access(writable=True))
    shelf.away.add("1.gnb_cpu")
    report = await looked(shelf, spec, bindings=bound(CPU))
    assert (report.rows[0].writable, report.ok) == (None, False)
    assert not any("writable" in line for line in lines(report))


async def test_one_target_in_trouble_is_named_and_hides_no_other(make_shelf, spec):
    shelf = make_shelf({"1.gnb_cpu": 700.0, "1.transport_bandwidth": None})
    for trouble in (shelf.away, shelf.broken):
        trouble.add("1.gnb_cpu")
        cpu, bandwidth = (await looked(shelf, spec)).rows
        assert (cpu.readable, bool(cpu.error)) == (False, True)
        assert (bandwidth.readable, bandwidth.observed, bandwidth.error) == (True, None, "")
        trouble.clear()


async def test_a_unit_that_is_not_the_drivers_is_an_error(make_shelf, spec):
    shelf = make_shelf({"1.gnb_cpu": 700.0})
    shelf.unit = "millicores"
    pools = {"edge": PoolSpec(pool="edge", resources={CPU: ResourceSpec(unit="GHz", weight=1.0, capacity=4.0)})}
    report = await looked(shelf, spec, bindings=bound(CPU), pools=pools)
    assert report.rows[0].error == "pool edge counts in 'GHz', the driver sets 'millicores'"
    assert not report.ok


async def test_bounds_that_a_target_cannot_hold_are_an_error(make_shelf, spec):
    shelf = make_shelf({"1.gnb_cpu": 700.0})
    shelf.most = 4000.0
    report = await looked(shelf, spec, bindings=bound(CPU))
    assert report.rows[0].error == "cannot hold the slice's ceiling 4500: 1.gnb_cpu holds 4000 at most"


async def test_nothing_bound_is_not_all_right(make_shelf, spec):
    report = await looked(make_shelf(), spec, bindings=Bindings([], {"shelf"}))
    assert not report.ok
    assert list(lines(report))[-1] == "nothing is bound here: write bindings into the table [actuator]"


async def test_a_driver_that_cannot_be_opened_is_the_error_of_what_is_bound_to_it(spec):
    report = await check(bound(CPU), {"shelf": "driver 'shelf' needs shelves"}, [spec("1")], {}, {})
    assert [row.error for row in report.rows if row.driver] == ["driver 'shelf' needs shelves"]
