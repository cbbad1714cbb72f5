"""What a scheduler expects of its next step."""

import pytest

from riverrun.streaming.scheduler.times import StepTimes


def test_steps_are_expected_as_measured_and_follow_the_machine() -> None:
    times = StepTimes()
    assert times.predict(5) == 0.0
    for work, seconds in ((1, 0.01), (4, 0.02), (16, 0.05)):
        times.calibrate(work, seconds)
    assert [times.predict(work) for work in (1, 10, 32)] == pytest.approx([0.01, 0.035, 0.1])
    for _ in range(100):
        times.observe(4, 0.06)
    assert times.predict(16) == pytest.approx(0.15, rel=0.01)


def test_one_pause_says_little_of_the_next_step() -> None:
    times = StepTimes()
    times.calibrate(1, 0.01)
    times.observe(1, 5.0)
    assert times.predict(1) == pytest.approx(0.011)
