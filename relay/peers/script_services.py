"""IScriptService and IScriptServiceV2: both run scripts below the Tentacle's home (wire.md 9.1, 9.2)."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from relay.peers import contracts
from relay.peers.contracts import SCRIPTS_V1, SCRIPTS_V2, ContractError, ExitCode, State, Status
from relay.peers.documents import TYPE
from relay.peers.errors import ServiceError
from relay.peers.isolation import Mutex
from relay.peers.scripts import Script
from relay.peers.services import Service
from relay.peers.times import Clock, Reactor

_TICKET = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


class ScriptServices:
    """The scripts of one Tentacle, and the two services that start and follow them. work: the folder of their folders."""

    def __init__(self, reactor: Reactor, clock: Clock, work: Path) -> None:
        self._reactor = reactor
        self._clock = clock
        self._work = work
        self._scripts: dict[str, Script] = {}
        self._mutexes: dict[str, Mutex] = {}
        self.v1 = Service(
            SCRIPTS_V1,
            "Octopus.Tentacle.Services.Scripts.ScriptService",
            {
                "StartScript": self._start_v1,
                "GetStatus": self._get_status_v1,
                "CancelScript": self._cancel_v1,
                "CompleteScript": self._complete_v1,
            },
        )
        self.v2 = Service(
            SCRIPTS_V2,
            "Octopus.Tentacle.Core.Services.Scripts.ScriptServiceV2",
            {
                "StartScript": self._start_v2,
                "GetStatus": self._get_status_v2,
                "CancelScript": self._cancel_v2,
                "CompleteScript": self._complete_v2,
            },
        )

    async def stop(self) -> None:
        """Kill every script, wait for its end and remove its folder."""
        for name in list(self._scripts):
            await self._remove(name)

    async def _start_v1(self, command: object) -> object:
        start = replace(contracts.read_start_script(command, v2=False), ticket=uuid4().hex)
        self._start(start)
        return {TYPE: contracts.type_v1("ScriptTicket"), **contracts.ticket(start.ticket)}

    async def _get_status_v1(self, request: object) -> object:
        return self._status_v1(*self._asked(request, contracts.either("ScriptStatusRequest")))

    async def _cancel_v1(self, request: object) -> object:
        return await self._cancelled(request, contracts.either("CancelScriptCommand"), self._status_v1)

    async def _complete_v1(self, request: object) -> object:
        name, last_log = self._asked(request, contracts.either("CompleteScriptCommand"))
        script = self._scripts.get(name.lower())
        if script is None:
            return self._status_v1(name, last_log)
        script.cancel()
        await script.complete()
        final = self._status_v1(name, last_log)
        await self._remove(name.lower())
        return final

    async def _start_v2(self, command: object) -> object:
        start = contracts.read_start_script(command, v2=True)
        # The same ticket is the same script: a repeated call does not run it again.
        script = self._scripts.get(start.ticket.lower()) or self._start(start)
        if start.wait:
            await script.complete(start.wait)
        return self._status_v2(start.ticket, 0)

    async def _get_status_v2(self, request: object) -> object:
        return self._status_v2(*self._asked(request, (contracts.type_v2("ScriptStatusRequestV2"),)))

    async def _cancel_v2(self, request: object) -> object:
        return await self._cancelled(request, (contracts.type_v2("CancelScriptCommandV2"),), self._status_v2)

    async def _complete_v2(self, request: object) -> object:
        document = contracts.typed(request, contracts.type_v2("CompleteScriptCommandV2"))
        await self._remove(contracts.ticket_name(document.get("Ticket")).lower())
        return None

    def _start(self, start: contracts.StartScript) -> Script:
        if _TICKET.fullmatch(start.ticket) is None:
            raise ServiceError("System.ArgumentException", "A ticket has 1 to 100 letters, digits, dashes and dots.")
        if any("\0" in argument for argument in start.arguments):
            raise ContractError("an argument holds a null character")
        mutex = self._mutexes.setdefault(start.mutex, Mutex())
        key = start.ticket.lower()
        script = Script(start.ticket, start, self._work / key, mutex, self._reactor, self._clock)
        self._scripts[key] = script
        return script

    async def _cancelled(
        self, request: object, types: tuple[str, ...], status: Callable[[str, int], dict[str, object]]
    ) -> object:
        name, last_log = self._asked(request, types)
        script = self._scripts.get(name.lower())
        if script is not None:
            script.cancel()
            await script.complete()
        return status(name, last_log)

    async def _remove(self, key: str) -> None:
        script = self._scripts.pop(key, None)
        if script is not None:
            script.cancel()
            await script.complete()
            script.remove()

    def _asked(self, request: object, types: tuple[str, ...]) -> tuple[str, int]:
        document = contracts.typed(request, *types)
        return contracts.ticket_name(document.get("Ticket")), contracts.number(document, "LastLogSequence")

    def _status(self, name: str, last_log: int) -> Status:
        script = self._scripts.get(name.lower())
        if script is None:
            return Status(name, [], last_log, State.COMPLETE, ExitCode.UNKNOWN_SCRIPT)
        return script.status(last_log)

    def _status_v1(self, name: str, last_log: int) -> dict[str, object]:
        return contracts.status_document(contracts.type_v1("ScriptStatusResponse"), self._status(name, last_log))

    def _status_v2(self, name: str, last_log: int) -> dict[str, object]:
        return contracts.status_document(contracts.type_v2("ScriptStatusResponseV2"), self._status(name, last_log))
