"""A slow store costs one timeout, not one a request."""

from genkan.cache.pause import Pause


def test_after_a_timeout_one_asks_at_a_time() -> None:
    pause = Pause(seconds=1.0)
    assert pause.permits(10.0)
    pause.timed_out(10.0)
    assert not pause.permits(10.9)
    assert pause.permits(11.0)
    assert not pause.permits(11.1)  # one is asking already
    pause.timed_out(11.2)
    assert not pause.permits(12.1)
    assert pause.permits(12.2)


def test_an_answer_ends_it() -> None:
    pause = Pause(seconds=1.0)
    pause.timed_out(10.0)
    assert pause.permits(11.0)
    pause.answered()
    assert pause.permits(11.0)
    assert pause.permits(11.0)
