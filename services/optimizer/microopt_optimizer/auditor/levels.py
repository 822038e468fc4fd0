"""What an interval teaches of other numbers of users than its own: slice models err by load (docs/adr/0017)."""

import math

from microopt.specs import Margin, MarginLevel, levels_beside


def taught(margin: Margin, users: float, change: float, weight: float) -> tuple[MarginLevel, ...]:
    """Return the levels of QoS margins once that of an interval with `users` in its mean slot has changed.

    The two levels beside it follow, so that between them the margin is other by `change`. A level follows the more
    of any change the less it has `seen` itself: at first all do, and in the end each knows its own. The interval
    counts as `weight` of one.
    """
    beside = {level: share for level, share in levels_beside(users) if share > 0.0}
    norm = math.fsum(share**2 for share in beside.values())
    known = {level.half_octave: level for level in margin.levels}
    found = []
    for at in sorted(known.keys() | beside.keys()):
        level = known.get(at) or MarginLevel(half_octave=at, qos_margin=margin.qos_margin or 0.0)
        share, like_all = beside.get(at, 0.0), 1.0 / (1.0 + level.seen)
        follows = like_all + (1.0 - like_all) * share / norm
        found.append(
            MarginLevel(
                half_octave=at,
                qos_margin=level.qos_margin + follows * change,
                seen=level.seen + share * weight,
            )
        )
    return tuple(found)
