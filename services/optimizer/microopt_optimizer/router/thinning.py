"""Fewer atoms of traffic, so that a pool of many slices fits into one request."""

from itertools import pairwise
from typing import Final

from microopt.errors import MicrooptError
from microopt.messages import Traffic

BYTES_A_SLICE: Final = 1_200
BYTES_AN_ATOM: Final = 48
SHARE: Final = 0.9
FEWEST: Final = 8


def most_atoms(slices: int, max_payload: int) -> int:
    """Return how many atoms each of `slices` slices may have in a request of at most `max_payload` bytes.

    Raises:
        MicrooptError: too few to say anything.
    """
    atoms = int((SHARE * max_payload / slices - BYTES_A_SLICE) / BYTES_AN_ATOM)
    if atoms < FEWEST:
        raise MicrooptError(
            f"{slices} slices do not fit into one request of {max_payload} bytes; "
            "raise max_payload of the NATS server, or split the pool"
        )
    return atoms


def thinned(traffic: Traffic, most: int) -> Traffic:
    """Return `traffic` with at most `most` atoms, and in no slot fewer users than before.

    Neighbours are merged into groups of about equal weight, each taken at its upper end.
    """
    if len(traffic.users) <= most:
        return traffic
    atoms = sorted(zip(traffic.users, traffic.weights, strict=True))
    cumulative, total = [0.0], 0.0
    for _, weight in atoms:
        total += weight
        cumulative.append(total)
    edges = [min(int(share / total * most), most - 1) for share in cumulative[:-1]]
    last = [place for place, (here, after) in enumerate(pairwise([*edges, most])) if here != after]
    users = tuple(atoms[place][0] for place in last)
    bounds = [0.0, *(cumulative[place + 1] for place in last)]
    return Traffic(users, tuple((high - low) / total for low, high in pairwise(bounds)))
