import threading

import pytest
from gland_space.runner import Cancelled, Finished, Job, Runner, Tickets


@pytest.fixture
def runner():
    running = Runner()
    yield running
    running.close()


def test_progress_and_then_the_result_come_in_order(runner):
    gate = threading.Event()

    def work(job):
        job.report(0.5)
        assert gate.wait(300)
        return "result"

    steps = runner.follow(work)
    assert next(steps) == 0.5
    gate.set()
    assert [step for step in steps if isinstance(step, Finished)] == [Finished("result")]


def test_stopping_the_job_ends_the_work_at_its_next_report(runner):
    reported = []

    def work(job):
        for step in range(1000):
            job.report(step / 1000)
            reported.append(step)
            if step == 3:
                job.stop()

    with pytest.raises(Cancelled):
        list(runner.follow(work))
    assert reported == [0, 1, 2, 3]


def test_closing_the_iterator_stops_the_work_and_frees_the_thread(runner):
    started, gate, ended = threading.Event(), threading.Event(), threading.Event()

    def work(job):
        started.set()
        gate.wait(300)
        try:
            job.report(1.0)
        finally:
            ended.set()

    steps = runner.follow(work)
    next(steps)
    assert started.wait(300)
    steps.close()
    gate.set()
    assert ended.wait(300)
    assert list(runner.follow(lambda job: "next"))[-1] == Finished("next")


def test_the_result_of_a_run_stopped_in_its_last_moment_is_not_given(runner):
    def work(job):
        job.report(1.0)
        job.stop()
        return "of the picture before"

    with pytest.raises(Cancelled):
        list(runner.follow(work))


def test_a_job_stopped_while_it_waits_never_begins(runner):
    gate = threading.Event()
    runner.start(lambda job: gate.wait(300), Job())
    waiting = Job()
    ran = []
    future = runner.start(lambda job: ran.append(1), waiting)
    waiting.stop()
    gate.set()
    with pytest.raises(Cancelled):
        future.result(300)
    assert ran == []


def test_errors_of_the_work_come_out(runner):
    def work(job):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(runner.follow(work))


def test_one_run_at_a_time(runner):
    running, most, lock = [], [], threading.Lock()

    def work(job):
        with lock:
            running.append(1)
            most.append(len(running))
        threading.Event().wait(0.01)
        with lock:
            running.pop()

    for future in [runner.start(work, Job()) for _ in range(5)]:
        future.result(300)
    assert max(most) == 1


def test_a_ticket_is_taken_once_and_can_be_called_off_before_and_during_the_run():
    tickets = Tickets()
    assert tickets.take("anna") is None
    tickets.ask("anna")
    tickets.call_off("anna")
    assert tickets.take("anna") is None

    tickets.ask("anna")
    job = tickets.take("anna")
    assert tickets.take("anna") is None
    tickets.ask("bert")
    tickets.call_off("bert")
    job.report(0.1)
    tickets.call_off("anna")
    with pytest.raises(Cancelled):
        job.report(0.2)


def test_asking_again_calls_off_the_run_before_and_an_ended_run_calls_off_nothing():
    tickets = Tickets()
    tickets.ask("anna")
    first = tickets.take("anna")
    tickets.ask("anna")
    with pytest.raises(Cancelled):
        first.report(0.5)
    second = tickets.take("anna")
    tickets.done("anna", first)  # the late end of the first run
    tickets.call_off("anna")
    with pytest.raises(Cancelled):
        second.report(0.5)
