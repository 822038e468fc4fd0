import numpy as np
import pytest

from microopt.messages import Traffic
from microopt_forecaster.calibration import LEVELS
from microopt_forecaster.prediction import ATOMS, Prediction, raised


@pytest.fixture
def prediction():
    """A slot's users are uniform from 0 to 100, the interval's mean from 40 to 60."""
    return Prediction(
        "ridge", 100.0 * LEVELS, 40.0 + 20.0 * LEVELS, ((np.full(3, 0.9), 50), (np.full(3, np.nan), 0))
    )


def test_atoms_stand_for_the_distribution_of_a_slot(prediction):
    traffic = prediction.traffic()
    assert len(traffic.users) == ATOMS
    assert traffic.mean == pytest.approx(50.0)
    inside = sum(w for u, w in zip(traffic.users, traffic.weights, strict=True) if 5.0 <= u <= 95.0)
    assert inside == pytest.approx(0.9)


def test_bands_say_what_they_claim_and_what_they_held(prediction):
    slot, interval = (
        next(b for b in prediction.bands() if b.of == of and b.coverage == 0.9) for of in ("slot", "interval")
    )
    assert (slot.lower, slot.upper) == pytest.approx((5.0, 95.0))
    assert (interval.lower, interval.upper) == pytest.approx((41.0, 59.0))
    assert (slot.realised, slot.judged) == (0.9, 50)
    assert (interval.realised, interval.judged) == (None, 0)


def test_only_users_above_the_widest_band_exceed_a_prediction(prediction):
    assert not prediction.is_exceeded(59.4)
    assert prediction.is_exceeded(59.6)


def test_traffic_is_raised_to_what_is_observed_and_never_lowered():
    traffic = Traffic((1.0, 3.0), (0.5, 0.5))
    assert raised(traffic, 4.0).users == (2.0, 6.0)
    assert raised(traffic, 1.0) == traffic
    assert raised(Traffic((0.0,), (1.0,)), 4.0) == Traffic((4.0,), (1.0,))
