from microopt_forecaster.members import SILENCE_S, Members

SLICES = [f"1-{n:06x}" for n in range(300)]


def group(*names, now_s=0.0):
    found = [Members(name) for name in names]
    for member in found:
        for name in names:
            member.hear(name, now_s)
    return found


def owned(members, now_s=0.0):
    return {slice_ for slice_ in SLICES if members.owns(slice_, now_s)}


def test_one_alone_owns_everything():
    assert owned(Members("a")) == set(SLICES)


def test_each_slice_has_one_owner_and_each_replica_its_share():
    shares = [owned(member) for member in group("a", "b", "c")]
    assert sum(len(share) for share in shares) == len(SLICES)
    assert set().union(*shares) == set(SLICES)
    assert min(len(share) for share in shares) > 60


def test_one_that_goes_silent_leaves_its_slices_and_moves_no_other():
    a, b, _ = group("a", "b", "c")
    before = [owned(a), owned(b)]
    later = SILENCE_S + 1.0
    for member in (a, b):
        for name in ("a", "b"):
            member.hear(name, later)
    after = [owned(a, later), owned(b, later)]
    assert before[0] < after[0]
    assert before[1] < after[1]
    assert after[0] | after[1] == set(SLICES)
