"""What Twisted has to say, in the operational log: errors that nobody expected, with their traceback."""

from typing import Any, cast

from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from relay.admin.log import Log


class TwistedObserver:
    """Passes on what is at least an error; Twisted's own news of its ports and factories stay out of the log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __call__(self, event: dict[str, Any]) -> None:
        level = event.get("log_level", LogLevel.info)
        if level < LogLevel.error:
            return
        failure = event.get("log_failure")
        trace = failure.getTraceback() if failure is not None else None
        self._log.error("an error that nobody expected", message=formatEvent(event), traceback=trace)


def observe_twisted(log: Log) -> TwistedObserver:
    """Begins to; the observer can be taken away again with globalLogPublisher.removeObserver."""
    observer = TwistedObserver(log)
    globalLogPublisher.addObserver(cast("Any", observer))  # zope's interface, which a type checker cannot read
    return observer
