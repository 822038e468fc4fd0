from microopt_collector.dead import KEPT_A_MINUTE, Quota


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_few_a_minute_are_kept_of_each_source_and_reason():
    clock = Clock()
    quota = Quota(clock)
    assert sum(quota.take("ran", "negative") for _ in range(1000)) == KEPT_A_MINUTE
    assert quota.take("ran", "not_json")
    assert quota.take("core", "negative")
    clock.now_s = 59.0
    assert not quota.take("ran", "negative")
    clock.now_s = 60.0
    assert sum(quota.take("ran", "negative") for _ in range(1000)) == KEPT_A_MINUTE
