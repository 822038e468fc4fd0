from route.feedback import OPTIMISM, Setup, compared
from route.world import Exact


def test_a_margin_recovers_from_an_optimistic_model_and_costs_little_with_a_good_one():
    setups = {
        "margin": Setup(model=Exact(OPTIMISM)),
        "none": Setup(model=Exact(OPTIMISM), adapts=False),
        "good": Setup(),
    }
    found = compared(setups, range(2), 48)
    assert found["none"]["fulfilled_from_first"] < 0.2
    assert found["margin"]["recovered_after_intervals"] <= 10
    assert found["margin"]["fulfilled"] >= 0.9
    assert found["margin"]["cost_vs_oracle"] <= 0.05
    assert found["good"]["cost_vs_oracle_from_first"] <= 0.02
    assert found["good"]["fulfilled"] > found["oracle"]["fulfilled"] + 0.2


def test_the_same_seeds_give_the_same():
    first, second = (compared({"good": Setup()}, range(1), 6, slots=60) for _ in range(2))
    assert first == second
