from microopt_collector.publishing import waves


def test_no_slice_is_twice_in_a_wave_and_each_keeps_its_order(telemetry):
    slots = [telemetry(n, slice=name) for name in ("1", "2", "3") for n in range(3)]
    found = list(waves(slots, size=2))
    assert sorted((slot.slice, slot.time) for wave in found for slot in wave) == [(s.slice, s.time) for s in slots]
    for name in ("1", "2", "3"):
        times = [slot.time for wave in found for slot in wave if slot.slice == name]
        assert times == sorted(times)
    for wave in found:
        assert len({slot.slice for slot in wave}) == len(wave) <= 2


def test_slots_of_many_slices_go_out_together(telemetry):
    slots = [telemetry(0, slice=str(n)) for n in range(200)]
    assert [len(wave) for wave in waves(slots, size=128)] == [128, 72]
