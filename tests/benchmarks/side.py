"""A side that trains nothing: it counts in a thread of its own, prints to stdout, and tells of the count at its end."""

import threading
import time

from benchmarks.line import Line


def main() -> None:
    line = Line()
    asked = line.setup()
    counted = [0]

    def count() -> None:
        while True:
            counted[0] += 1
            time.sleep(0.001)

    print("the library greets everyone")
    line.ready()
    threading.Thread(target=count, daemon=True).start()
    for step in range(asked["steps"]):
        before = counted[0]
        while counted[0] < before + asked["counts"]:
            time.sleep(0.001)
        print("step", step)
        if step == asked.get("fails_at"):
            raise ValueError("this step was made to fail")
        line.stepped()
    line.finish({"counted": counted[0]})


if __name__ == "__main__":
    main()
