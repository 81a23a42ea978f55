"""A runner without science: it speaks the protocol of `clew_spec.runner` and does what the spec's words say.

The words are the `packages` of a build-dataset spec, or the prompt of an attribute spec:
`steps_20`, `ms_50` (a step's length), `every_5` (checkpoints), `fail_at_7`, `unavailable_at_7`,
`crash_at_7`, `crash_once_at_7`, `fill_at_7` (the disk), `hang_at_7` (deaf to everything but KILL), `nonsense_at_7`,
`corrupt`, `undeclared`, `clock` (to log the time at each step),
`huge` (a number too large for the catalogue), `nul` (as tokens hold it),
`peek` (at the environment of its parents).
Its one artifact has a line for each step with the attempt that did it: what a resume inherits is there.
"""

import argparse
import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import urlopen


class Job:
    def __init__(self, order: dict[str, Any], messages: "queue.Queue[dict[str, Any] | None]") -> None:
        self.order = order
        self.messages = messages
        self.scratch = Path(order["scratch"])
        self.fence = int(order["fence"])
        self.words: dict[str, int] = {}
        spec = order["spec"]
        for word in self.told(spec):
            name, _, value = word.rpartition("_")
            self.words.update({name: int(value)} if value.isdigit() else {word: 1})
        self.token = " " + os.environ.get("HF_TOKEN", "") if "leak" in self.words else ""
        self.nul = "\0" if "nul" in self.words else ""
        self.n = 0
        self.lines: list[str] = []

    def told(self, spec: dict[str, Any]) -> list[str]:
        """The words that say what to do: of a prompt, of packages, or of the configuration of a hub's dataset."""
        if spec["kind"] == "attribute":
            return str(spec["prompt"]).split()
        source = spec["source"]
        return str(source["config"]).split("+") if source["kind"] == "hf" else list(source["packages"])

    def emit(self, type: str, **fields: Any) -> None:
        event = {"n": self.n, "t": time.time(), "type": type, **fields}
        text = json.dumps(event) + "\n"
        with (self.scratch / "events.jsonl").open("a") as file:
            file.write(text[:7])
            file.flush()  # a reader must wait for the rest of the line
            file.write(text[7:])
        self.n += 1

    def write(self, path: str, name: str) -> dict[str, Any]:
        content = "".join(line + "\n" for line in self.lines).encode()
        place = self.scratch / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        digest = "0" * 64 if "corrupt" in self.words else sha256(content).hexdigest()
        return {"name": name, "path": path, "sha256": digest, "size": len(content), "media_type": "text/plain"}

    def checkpoint(self) -> None:
        step = len(self.lines)
        self.emit("checkpoint", step=step, files=[self.write(f"checkpoints/{step}/state", "state")])

    def told_to_stop(self) -> dict[str, Any] | None:
        try:
            message = self.messages.get_nowait()
        except queue.Empty:
            return None
        if message is None:
            os._exit(1)
        return message

    def run(self) -> None:
        for item in self.order["resume"]:
            with urlopen(item["url"]) as answer:  # noqa: S310  # what the supervisor signed
                content = answer.read()
            assert sha256(content).hexdigest() == item["sha256"]
            self.lines = content.decode().splitlines()
        assert len(self.lines) == (self.order["resume_step"] or 0)
        steps = self.words.get("steps", 3)
        while len(self.lines) < steps:
            self.step(steps)
            stop = self.told_to_stop()
            if stop is not None:
                if stop["checkpoint"]:
                    self.checkpoint()
                self.emit("stopped", step=len(self.lines))
                return
        self.emit("artifact", file=self.write("out/steps.txt", "dataset/steps.txt"))
        lineage = {"code_version": self.order["code_version"]}
        if self.order["spec"]["kind"] == "attribute":
            self.emit("done", result={"kind": "evaluation", "coders": [], "coder_ids": [], "lineage": lineage})
        else:
            self.emit("done", result={**self.result(), "lineage": lineage})

    def step(self, steps: int) -> None:
        time.sleep(self.words.get("ms", 1) / 1000)
        step = len(self.lines) + 1
        self.misbehave(step)
        self.lines.append(f"{step} {self.fence} {os.getpid()}")
        if "clock" in self.words:
            self.emit("log", level="info", message=f"it is {time.time():.3f}")
        self.emit("metric", step=step, values={"loss" + self.nul: 1 / step})
        if self.token:
            self.emit("log", level="info", message=f"Authorization: Bearer{self.token}")
        self.emit("progress", phase="step", done=step, total=steps, unit="steps", rate=1.0, eta_s=1.0)
        if "every" in self.words and step % self.words["every"] == 0 and step < steps:
            self.checkpoint()

    def misbehave(self, step: int) -> None:
        words = self.words
        if step == words.get("fail_at"):
            detail = "as told" + self.token
            problem = {"type": "urn:clew:data-error", "title": "Data", "status": 422, "detail": detail}
            self.emit("failed", problem=problem, retryable="retryable" in words)
            os._exit(0)
        if step == words.get("unavailable_at"):
            problem = {"type": "urn:clew:unavailable", "title": "Away", "status": 503, "detail": "the store is away"}
            self.emit("failed", problem=problem, retryable=True)
            os._exit(0)
        if step == words.get("crash_at") or (step == words.get("crash_once_at") and not self.order["resume"]):
            print("out of luck" + self.token, file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if step == words.get("fill_at"):
            with (self.scratch / "ballast").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(2**16))
        if step == words.get("hang_at"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self.emit("log", level="warning", message="hanging")
            time.sleep(3600)
        if step == words.get("nonsense_at"):
            with (self.scratch / "events.jsonl").open("a") as file:
                file.write('{"n": 0}\n')
            time.sleep(3600)

    def result(self) -> dict[str, Any]:
        return {
            "kind": "dataset",
            "name": self.order["spec"]["name"],
            "digest": sha256("".join(self.lines).encode()).hexdigest(),
            "tokenizer_digest": "0" * 64,
            "context": 8,
            "bos": "none",
            "train_tokens": 2**70 if "huge" in self.words else len(self.lines),
            "heldout_tokens": 1,
            "n_documents": 1,
            "source": {
                "environ": sorted(os.environ),
                "others": peek() if "peek" in self.words else [],
                "tokens": ["a" + self.nul, "\\u0000", *self.token.split()],
            },
            "files": ["dataset/steps.txt", *(["dataset/more"] if "undeclared" in self.words else [])],
        }


def peek() -> list[str]:
    """The environments of supervisor and watch, as far as they may be read."""
    seen: list[str] = []
    parent = os.getppid()
    grandparent = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (parent, grandparent):
        with contextlib.suppress(PermissionError):
            seen += Path(f"/proc/{pid}/environ").read_text().split("\0")
    return seen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-jobs", type=int, required=True)
    max_jobs: int = parser.parse_args().max_jobs
    messages: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            messages.put(json.loads(line))
        messages.put(None)

    threading.Thread(target=listen, daemon=True).start()
    for _ in range(max_jobs):
        message = messages.get()
        while message is not None and message["type"] == "cancel":
            message = messages.get()
        if message is None:
            return
        Job(message, messages).run()


if __name__ == "__main__":
    main()
