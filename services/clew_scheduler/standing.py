"""Say again and again where every waiting job stands."""

import time

from sqlalchemy.orm import Session, sessionmaker

from clew_lab.jobs.standing import look
from clew_scheduler.helper import Helper


def standing_helper(sessions: sessionmaker[Session], *, alive_s: float, every_s: float) -> Helper:
    """A long queue takes its time. Of several schedulers, one looks at a time."""

    def turn() -> float:
        began = time.monotonic()
        with sessions.begin() as session:
            look(session, alive_s=alive_s, fresh_s=every_s / 2)
        return max(0.0, began + every_s - time.monotonic())

    return Helper("standing", turn)
