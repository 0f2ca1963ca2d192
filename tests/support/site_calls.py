"""Calls at a service_site.Site, up to where a test wants them."""

from halibut_bytes import REQUEST
from service_site import REPLY, Site
from tls_peer import TlsPeer

from relay.halibut.lines import CLIENT_IDENTITY, END, NEXT, PREAMBLE, PROCEED


async def turn(site: Site, caller: TlsPeer, tentacle: TlsPeer) -> None:
    """The caller's next call, over the connection to the Tentacle that the relay has kept."""
    caller.write(NEXT)
    await site.hears(tentacle, NEXT)
    tentacle.write(PROCEED)
    await site.hears(caller, PROCEED)
    await site.call(caller, tentacle)


async def dials_anew(site: Site, caller: TlsPeer) -> TlsPeer:
    """The caller's next call takes another connection to the Tentacle."""
    caller.write(NEXT)
    tentacle = await site.accept()
    await site.hears(caller, PROCEED)
    await site.call(caller, tentacle)
    return tentacle


async def in_call(site: Site) -> tuple[TlsPeer, TlsPeer]:
    caller, tentacle = await site.answered()
    caller.write(REQUEST)
    await site.hears(tentacle, REQUEST)
    return caller, tentacle


async def ends_well(site: Site, caller: TlsPeer, tentacle: TlsPeer) -> None:
    """The call in flight."""
    tentacle.write(REPLY)
    await site.hears(caller, REPLY)


async def waits(site: Site) -> TlsPeer:
    """A caller that waits for a Tentacle which has been dialled, and says nothing."""
    caller = await site.caller()
    caller.write(PREAMBLE)
    caller.write(CLIENT_IDENTITY)
    await site.street.spin(site.dialled)
    return caller


async def given_up(site: Site, tentacle: TlsPeer) -> None:
    """An idle connection is closed, as Octopus does it."""
    await site.changes.until(lambda: tentacle.end)
    assert tentacle.data == END
