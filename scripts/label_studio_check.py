"""Does a real Label Studio take our tasks, and do we take its export?

    python -m venv ls && ls/bin/pip install label-studio
    python scripts/label_studio_check.py --command ls/bin/label-studio

Starts a server on this machine (SQLite, in a temporary folder, no telemetry), makes a project of
the labelling configuration and the tasks that ``label queue`` wrote of the sample transcripts, asks
whether every prediction and region arrived, answers two tasks, and brings the JSON export back with
``label import``. A server that runs already is asked with ``--url``; its legacy token is read from
``$LABEL_STUDIO_API_KEY``, and the project is deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cs_classifier.labels import load_labels

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = "annotator@example.com"
SAMPLE = Path(__file__).parent.parent / "data" / "samples" / "transcripts.csv"
START = 1800  # seconds that a first start may take at most: it builds its database
LINES = 12


class Server:
    """The few calls of the API that are needed."""

    def __init__(self, url: str, token: str) -> None:
        """``token`` is a legacy token."""
        self._url, self._token = url.rstrip("/"), token

    def call(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401
        """Send ``body`` as JSON and return the decoded answer; an error is printed whole."""
        request = urllib.request.Request(
            f"{self._url}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Token {self._token}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {path}: {error} {error.read().decode()[:2000]}")
        return json.loads(content) if content else None

    def ready(self) -> bool:
        """Whether the server answers."""
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=5):
                return True
        except OSError:
            return False


@contextmanager
def started(command: str, folder: Path) -> Iterator[Server]:
    """A server of our own, ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(20)
    account = ["--username", USER, "--password", secrets.token_hex(8), "--user-token", token]
    settings = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
    }
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [command, "start", "--init", "--no-browser", "--internal-host", "127.0.0.1",
             "--port", str(port),
             "--enable-legacy-api-token", *account],
            stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, **settings},
        )  # fmt: skip
    server = Server(f"http://127.0.0.1:{port}", token)
    try:
        deadline = time.monotonic() + START
        while not server.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit((folder / "server.log").read_text()[-3000:])
            time.sleep(1)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=60)


def cs(*arguments: object) -> None:
    """Run one of our commands."""
    subprocess.run([sys.executable, "-m", "cs_classifier", *map(str, arguments)], check=True)


def tasks(scored: Path, folder: Path) -> tuple[list[dict[str, Any]], str]:
    """Tasks of scored lines, and their labelling configuration."""
    written = folder / "tasks.json"
    cs("label", "queue", scored, "-n", LINES, "-o", written)
    return json.loads(written.read_text("utf-8")), written.with_suffix(".xml").read_text("utf-8")


def check(server: Server, ours: list[dict[str, Any]], config: str) -> list[dict[str, Any]]:
    """Make a project, compare what arrived, answer two tasks, and return the export."""
    project = server.call("POST", "api/projects/", {"title": "check", "label_config": config})["id"]
    try:
        counts = server.call("POST", f"api/projects/{project}/import", ours)
        sent = [prediction for task in ours for prediction in task["predictions"]]
        assert counts["task_count"] == len(ours), counts
        assert counts["prediction_count"] == len(sent), counts
        listed = server.call("GET", f"api/tasks?project={project}&fields=all&page_size=100")
        theirs = {task["data"]["key"]: task for task in listed["tasks"]}
        for task in ours:
            arrived = theirs[task["data"]["key"]]
            assert arrived["data"] == task["data"]
            assert _essence(arrived["predictions"]) == _essence(task["predictions"])
        regions = [r for p in sent for r in p["result"] if r["type"] == "labels"]
        print(f"{len(ours)} tasks, {len(sent)} predictions, {len(regions)} regions arrived")
        for task_id, result in answers([theirs[task["data"]["key"]] for task in ours]):
            server.call("POST", f"api/tasks/{task_id}/annotations/", {"result": result})
        export = f"api/projects/{project}/export?exportType=JSON&download_all_tasks=true"
        return server.call("GET", export)
    finally:
        server.call("DELETE", f"api/projects/{project}/")


def _essence(predictions: list[dict[str, Any]]) -> list[Any]:
    return [(p["model_version"], p.get("score"), p["result"]) for p in predictions]


def answers(found: list[dict[str, Any]]) -> list[tuple[int, list[dict[str, Any]]]]:
    """Two answers as the page sends them: a prediction confirmed, and a blind task labelled."""
    shown = next(t for t in found if len(t["predictions"]) and len(_result(t)) > 1)
    blind = next(t for t in found if not t["predictions"])
    return [
        (shown["id"], [*_result(shown), _given("verdict", "choices", ["确认"])]),
        (
            blind["id"],
            [
                _given("labels", "choices", ["辱骂骚扰", "站外联系"]),
                _given("note", "textarea", ["两类都有"], key="text"),
            ],
        ),
    ]


def _result(task: dict[str, Any]) -> list[dict[str, Any]]:
    return task["predictions"][0]["result"]


def _given(name: str, kind: str, values: list[str], *, key: str = "choices") -> dict[str, Any]:
    return {"from_name": name, "to_name": "text", "type": kind, "value": {key: values}}


def imported(export: Path, folder: Path) -> list[dict[str, Any]]:
    """The events that ``label import`` makes of the export."""
    store = folder / "labels.jsonl"
    cs("label", "import", export, "--store", store)
    return [json.loads(line) for line in store.read_text("utf-8").splitlines()]


def answered(exported: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The labels that were given to each answered text."""
    ids = {label.zh: label.id for label in load_labels().labels}
    return {
        task["data"]["text"]: sorted(
            ids[name]
            for region in annotation["result"]
            if region["from_name"] == "labels"
            for name in region["value"]["choices"]
        )
        for task in exported
        for annotation in task["annotations"]
    }


def main() -> None:
    """Run the whole way and say what came back; a difference ends in an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--command", default="label-studio", help="how Label Studio is called")
    parser.add_argument("--url", default=os.environ.get("LABEL_STUDIO_URL"))
    parser.add_argument("--scored", type=Path, help="default: the sample transcripts, scored now")
    parser.add_argument("--keep", type=Path, help="keep the export here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scored = options.scored or folder / "scored.jsonl"
        if not options.scored:
            cs("predict", SAMPLE, "-o", scored)
        ours, config = tasks(scored, folder)
        if options.url:
            server = nullcontext(Server(options.url, os.environ["LABEL_STUDIO_API_KEY"]))
        else:
            server = started(options.command, folder)
        with server as running:
            exported = check(running, ours, config)
        path = options.keep or folder / "export.json"
        path.write_text(json.dumps(exported, ensure_ascii=False, indent=1) + "\n", "utf-8")
        events = imported(path, folder)
    assert len(exported) == len(ours)
    assert {event["text"]: sorted(event["new"]) for event in events} == answered(exported), events
    for event in events:
        print(f"{event['who']}: {'+'.join(event['new'])} {event['reason']}".rstrip())
    print("passed")


if __name__ == "__main__":
    main()
