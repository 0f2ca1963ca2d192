"""What the words of relay/outcomes.py mean, for whoever has to mend it: the cause, and the remedy where there is one."""

from typing import Final, NamedTuple

from relay.outcomes import NodeTrouble, Outcome, Refusal


class Cause(NamedTuple):
    """remedy: empty where nothing on this side needs mending."""

    text: str
    remedy: str


_LOOK_AT_LOG: Final = "The detail says which rule; if it goes on, look at the versions of Octopus, Tentacle and relay."

CAUSES: Final[dict[Outcome | Refusal | NodeTrouble, Cause]] = {
    Outcome.OK: Cause("the call was carried", ""),
    Outcome.ERROR_REPLY: Cause("the Tentacle answered that the call failed there", "See the task log in Octopus."),
    Outcome.DENIED: Cause(
        "a call was denied: no item of `allow` lets this caller make it",
        "Nothing, if that is meant. The detail says which call it was: `explain` tells which rules there are, and where.",
    ),
    Outcome.RESOLVE: Cause(
        "the name of the Tentacle's host does not resolve", "Mend DNS on the relay's host, or correct `tentacle` and reload."
    ),
    Outcome.REFUSED: Cause(
        "the Tentacle's host refuses the connection: nothing listens on that port",
        "Start the Tentacle service there, or correct `tentacle` and reload.",
    ),
    Outcome.UNREACHABLE: Cause(
        "no way leads to the Tentacle's host", "See that it is up, and the routes and firewalls from the relay to it."
    ),
    Outcome.CONNECT_TIMEOUT: Cause(
        "the Tentacle's host did not answer in time (timeouts.connect)",
        "See that it is up, and that no firewall on the way drops what the relay sends.",
    ),
    Outcome.TLS: Cause(
        "the TLS handshake with the Tentacle failed",
        "See that a Tentacle listens there, and that nothing on the way intercepts TLS.",
    ),
    Outcome.WRONG_CERTIFICATE: Cause(
        "the Tentacle shows a certificate that is not pinned",
        "If its certificate was replaced, put the new thumbprint into `thumbprints` and reload. "
        "If not, find out who answers there.",
    ),
    Outcome.NOT_TRUSTED: Cause(
        "the Tentacle closes before it says who it is: it does not trust the relay, or it is stopping",
        "Let the Tentacle trust the thumbprint of the relay's octopus identity (`identity show`).",
    ),
    Outcome.QUEUE_TIMEOUT: Cause(
        "every connection to the Tentacle was busy for too long (timeouts.ready)",
        "Raise limits.connections of this machine, or find out which calls take so long.",
    ),
    Outcome.READY_TIMEOUT: Cause(
        "the Tentacle was connected and did not identify itself in time (timeouts.ready)",
        "See whether the Tentacle's host is overloaded, and restart the Tentacle service.",
    ),
    Outcome.NO_POLLER: Cause(
        "the Tentacle polls the relay, and was not there for too long (timeouts.ready)",
        "Start the Tentacle service; see that it polls back.listen, and trusts the thumbprint there (`machines NAME`).",
    ),
    Outcome.QUEUE_FULL: Cause(
        "too many calls waited already for the Tentacle (limits.waiting)",
        "Raise limits.connections of this machine, give a polling Tentacle more connections, or find out which calls take so "
        "long.",
    ),
    Outcome.EXCHANGES: Cause(
        "too many calls were under way (relay.limits.exchanges)", "Find out which calls take so long (`status`), or raise it."
    ),
    Outcome.OCTOPUS_EXCHANGES: Cause(
        "too many calls of this Octopus were under way (limits.exchanges of its entry)",
        "Find out which calls take so long (`status`), or raise it.",
    ),
    Outcome.BUFFERED: Cause(
        "too many bytes waited for peers that take none (relay.limits.buffered)",
        "See the network to Octopus and the Tentacles, or raise it if there is memory.",
    ),
    Outcome.DESCRIPTORS: Cause(
        "the relay has no file descriptor left",
        "Allow it more (systemd: LimitNOFILE=), or lower relay.limits.connections.",
    ),
    Outcome.CALLER_LEFT: Cause("Octopus closed before it sent a request", ""),
    Outcome.CALLER_SILENT: Cause(
        "the Tentacle was ready, and Octopus sent no request in time (timeouts.front_idle)", "See the network to Octopus."
    ),
    Outcome.CANCELLED: Cause("Octopus closed during the call: it was cancelled, or timed out there", ""),
    Outcome.TENTACLE_GONE: Cause(
        "the Tentacle closed during the call, or its machine died", "See the Tentacle's own log for a restart or a crash."
    ),
    Outcome.CALLER_BROKE: Cause("Octopus' side broke the protocol", _LOOK_AT_LOG),
    Outcome.TENTACLE_BROKE: Cause("the Tentacle's side broke the protocol", _LOOK_AT_LOG),
    Outcome.SILENT: Cause("nothing moved for 11 minutes", "See whether the Tentacle hangs, and the network on both sides."),
    Outcome.STALLED: Cause(
        "the Tentacle closed, and Octopus did not take what it had left", "See the network between the relay and Octopus."
    ),
    Outcome.STOPPED: Cause("the relay ended the call: it was stopped, and the drain time was over", ""),
    Outcome.CUT: Cause("an operator ended the call: drain, close, or a reload that cuts", ""),
    Refusal.CONNECTIONS: Cause(
        "a caller was closed: relay.limits.connections were open", "Raise relay.limits.connections, and LimitNOFILE= with it."
    ),
    Refusal.MACHINE_CONNECTIONS: Cause(
        "a caller was closed: limits.connections of the machine, which is passed through, were open",
        "Raise limits.connections of this machine.",
    ),
    Refusal.STRANGERS: Cause(
        "a caller was closed: relay.limits.strangers were there who had not said who they are",
        "The log names their addresses: keep them out with a firewall. If they are yours, raise the limit.",
    ),
    Refusal.SOURCE_STRANGERS: Cause(
        "a caller was closed: relay.limits.source_strangers of its address were there who had not said who they are",
        "Find out what connects from there. If it is yours, raise the limit.",
    ),
    Refusal.CALLERS: Cause(
        "a caller was closed: limits.callers of the machine were there",
        "Find out what keeps them open in Octopus, or raise it.",
    ),
    Refusal.OCTOPUS_CALLERS: Cause(
        "a caller was closed: limits.callers of its octopus entry were there",
        "Find out what keeps them open in Octopus, or raise it.",
    ),
    Refusal.NOT_TLS: Cause("a caller did not speak TLS", "Nothing, unless it is Octopus: then see what stands in between."),
    Refusal.HELLO_TIMEOUT: Cause("a caller connected and began no TLS", "Nothing, if it is a load balancer's probe."),
    Refusal.LEFT_EARLY: Cause("a caller closed before it began TLS", "Nothing, if it is a load balancer's probe."),
    Refusal.TLS: Cause("the TLS handshake with a caller failed", "If it is Octopus, see that nothing intercepts TLS."),
    Refusal.CERTIFICATE_REFUSED: Cause(
        "a caller closed on seeing the relay's certificate",
        "If it is Octopus, compare the machine's thumbprint there with `identity show`. If it is a polling Tentacle, let it "
        "trust what `machines NAME` says.",
    ),
    Refusal.IDENTIFY_TIMEOUT: Cause("a caller did not say who it is in time", "See the network between it and the relay."),
    Refusal.NO_CERTIFICATE: Cause("a caller showed no certificate", "Nothing, unless it is Octopus: see what intercepts TLS."),
    Refusal.UNTRUSTED: Cause(
        "a caller showed a certificate of none of the machine's octopus entries",
        "If it is your Octopus, put the thumbprint in the detail into `octopus` and reload.",
    ),
    Refusal.NOT_ALLOWED: Cause(
        "a caller was closed: no item of `allow` is for its octopus entry and its address",
        "If it is your Octopus, add its address to an item's `from`, and reload.",
    ),
    Refusal.BROKE_PROTOCOL: Cause("a caller did not speak Halibut as it should", _LOOK_AT_LOG),
    Refusal.DRAINING: Cause("a caller was there while its door was closed: the relay drains, or a reload took it away", ""),
    Refusal.MACHINE_DRAINED: Cause("a caller came for a machine that is drained", "Run `relay-tentacle resume` when it may."),
    Refusal.UNKNOWN_SUBSCRIPTION: Cause(
        "a polling Tentacle named a subscription that no machine has",
        "If it is one of yours, put its id (detail) into `tentacle` of its machine and reload.",
    ),
    Refusal.NOT_OWNER: Cause(
        "somebody named this machine's subscription and showed another certificate",
        "If the Tentacle's certificate was replaced, put the new thumbprint into `thumbprints` and reload. "
        "If not, find out who it is.",
    ),
    Refusal.POLLERS: Cause(
        "the Tentacle polls with more connections than limits.connections allows",
        "Raise it, or let the Tentacle poll with fewer.",
    ),
    NodeTrouble.RESOLVE: Cause(
        "the name of the Octopus node, or of its proxy, does not resolve", "Mend DNS on the relay's host, or correct `nodes`."
    ),
    NodeTrouble.REFUSED: Cause(
        "the Octopus node refuses the connection: nothing listens on that port",
        "See that the node is up and listens for polling Tentacles, or correct `nodes`.",
    ),
    NodeTrouble.UNREACHABLE: Cause(
        "no way leads to the Octopus node", "See that it is up, and the routes and firewalls from the relay to it."
    ),
    NodeTrouble.CONNECT_TIMEOUT: Cause(
        "the Octopus node did not answer within 20 s",
        "See that it is up, and that no firewall on the way drops what the relay sends.",
    ),
    NodeTrouble.DESCRIPTORS: Cause(
        "the relay has no file descriptor left",
        "Allow it more (systemd: LimitNOFILE=), or lower relay.limits.connections.",
    ),
    NodeTrouble.PROXY: Cause(
        "the proxy on the way to the Octopus node lets nobody through",
        "Let it allow CONNECT to the node, and see the credentials in `proxy_credentials`.",
    ),
    NodeTrouble.TLS: Cause("the TLS handshake with the Octopus node failed", "See that nothing on the way intercepts TLS."),
    NodeTrouble.WRONG_CERTIFICATE: Cause(
        "the Octopus node shows a certificate that is not pinned",
        "If its certificate was replaced, put the new thumbprint into `octopus[].thumbprints` and reload. If not, find out who "
        "answers there.",
    ),
    NodeTrouble.NOT_TRUSTED: Cause(
        "the Octopus node closes before it says who it is: it does not trust this machine's thumbprint, or limits connections",
        "Give Octopus the thumbprint and the subscription id that `machines NAME` prints.",
    ),
    NodeTrouble.SILENT: Cause("the Octopus node said nothing for 60 s", "See the network between it and the relay."),
    NodeTrouble.CLOSED: Cause("the Octopus node closed a connection that it had accepted", "See whether it was restarted."),
    NodeTrouble.BROKE_PROTOCOL: Cause("the Octopus node did not speak Halibut as it should", _LOOK_AT_LOG),
    Refusal.NO_NAME: Cause(
        "a caller at the shared door named no host (SNI)", "Nothing, unless it is Octopus: let it call by the name in `host`."
    ),
    Refusal.UNKNOWN_NAME: Cause(
        "a caller at the shared door named a host that is no machine's", "If it is Octopus, correct its address, or add `host`."
    ),
    Refusal.NOT_CONNECT: Cause(
        "a caller at the CONNECT door did not ask for a machine",
        "Nothing, unless it is Octopus: then see what stands in between.",
    ),
    Refusal.PROXY_CREDENTIALS: Cause(
        "a caller at the CONNECT door is none of the users in front.credentials",
        "If it is Octopus, correct user name and password of its proxy, or add them to the file and reload.",
    ),
    Refusal.UNKNOWN_TARGET: Cause(
        "a caller at the CONNECT door asked for a host and port that no machine has",
        "If it is Octopus, correct the machine's address there, or put it into `connect` and reload.",
    ),
}
