"""The queue: in order, one at a time; who goes away frees a place, and a worker that ends is started again."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the studio's extra is not installed")

from serving import Served, serve
from talking import JSON, add_mask, ask, drawing, events

PICTURES = "/api/v1/pictures"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("line") / "studio", FAKE_STEP_SECONDS="0.03") as one:
        yield one


def resident(pid: int) -> float:
    """Memory in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


def begin(port: int, body: dict[str, Any]) -> http.client.HTTPConnection:
    """A job that is asked for and not waited for."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", PICTURES, json.dumps(body).encode(), JSON)
    return connection


def waiting(port: int) -> int:
    return int(json.loads(ask(port, "GET", "/api/v1")[2])["waiting"])


def wait_for(port: int, number: int) -> None:
    """Wait until the queue has this many jobs."""
    for _ in range(200):
        if waiting(port) == number:
            return
        time.sleep(0.05)
    raise AssertionError(waiting(port))


def test_events_come_in_order(served):
    found = list(events(served.port, PICTURES, drawing(add_mask(served.port), seed=1)))
    assert [next(iter(one)) for one in found] == ["waiting", *["step"] * 4, "picture", "trust", "done"]


def test_a_job_says_when_its_turn_has_come(served):
    """Also one that has no step to tell of yet."""
    mask = add_mask(served.port)
    first = begin(served.port, drawing(mask, seed=667))
    wait_for(served.port, 1)
    second = begin(served.port, drawing(mask, seed=667))
    wait_for(served.port, 2)
    answer = second.getresponse()
    assert json.loads(answer.readline()) == {"waiting": 1}
    first.close()
    assert json.loads(answer.readline()) == {"waiting": 0}
    second.close()
    wait_for(served.port, 0)


def test_ten_clients_at_once_are_served_in_order(served):
    mask, ended, places = add_mask(served.port), [], {}

    def client(number: int) -> None:
        found = list(events(served.port, PICTURES, drawing(mask, seed=number)))
        assert found[-1] == {"done": True}
        places[number] = [one["waiting"] for one in found if "waiting" in one]
        ended.append(number)

    first = begin(served.port, drawing(mask, seed=667))  # holds the queue until all have come
    clients = [threading.Thread(target=client, args=(number,)) for number in range(10)]
    for number, one in enumerate(clients):
        wait_for(served.port, number + 1)
        one.start()
    wait_for(served.port, 11)
    first.sock.close()
    for one in clients:
        one.join(60)
    assert ended == list(range(10))
    assert places[9][:10] == [*range(10, 0, -1)]


def test_the_server_answers_while_it_draws(served):
    held = begin(served.port, drawing(add_mask(served.port), seed=667))
    wait_for(served.port, 1)
    start = time.monotonic()
    assert ask(served.port, "GET", "/")[0] == 200
    assert time.monotonic() - start < 1
    held.sock.close()
    wait_for(served.port, 0)


def test_a_client_that_goes_away_frees_its_place_in_the_queue(served):
    mask = add_mask(served.port)
    held = begin(served.port, drawing(mask, seed=667))
    wait_for(served.port, 1)
    gone = begin(served.port, drawing(mask, seed=2))
    wait_for(served.port, 2)
    gone.sock.close()
    wait_for(served.port, 1)
    held.sock.close()
    wait_for(served.port, 0)
    assert waiting(served.port) == 0


def test_a_worker_that_ends_is_said_and_started_again(served):
    mask = add_mask(served.port)
    found = list(events(served.port, PICTURES, drawing(mask, seed=666)))
    assert "the worker ended unexpectedly" in found[-1]["error"]
    assert list(events(served.port, PICTURES, drawing(mask, seed=1)))[-1] == {"done": True}


def test_what_nobody_foresaw_is_a_sentence_without_its_inside(served):
    found = list(events(served.port, PICTURES, drawing(add_mask(served.port), seed=668)))
    assert "was not foreseen (KeyError)" in found[-1]["error"]
    assert "secret" not in json.dumps(found)
    assert "a secret of the inside" in served.said  # the terminal says all of it


def test_a_queue_that_is_full_says_so(served):
    mask = add_mask(served.port)
    held = [begin(served.port, drawing(mask, seed=667))]
    wait_for(served.port, 1)
    held += [begin(served.port, drawing(mask, seed=2)) for _ in range(64)]
    wait_for(served.port, 65)
    status, _, body = ask(served.port, "POST", PICTURES, drawing(mask, seed=3))
    assert status == 503
    assert "jobs wait already" in json.loads(body)["error"]
    for one in reversed(held):
        one.sock.close()
    wait_for(served.port, 0)


def test_memory_stays_flat(served):
    mask = add_mask(served.port)
    for seed in range(10):
        list(events(served.port, PICTURES, drawing(mask, seed=seed)))
    before = resident(served.process.pid)
    for seed in range(60):
        list(events(served.port, PICTURES, drawing(mask, seed=seed)))
    assert resident(served.process.pid) - before < 5


def test_masks_and_settings_survive_a_restart(tmp_path):
    with serve(tmp_path / "studio") as one:
        mask = add_mask(one.port)
        ask(one.port, "PUT", "/api/v1/settings", {"mask": mask, "seed": 5})
    with serve(tmp_path / "studio") as one:
        assert json.loads(ask(one.port, "GET", "/api/v1/settings")[2]) == {"mask": mask, "seed": 5}
        assert ask(one.port, "GET", f"/api/v1/masks/{mask}.png")[0] == 200
        assert ask(one.port, "GET", f"/api/v1/masks/{'0' * 16}.png")[0] == 404
