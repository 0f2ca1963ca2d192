"""A real call to a Tentacle, and what is wrong where it fails: how, why, and what to do."""

from relay.probe.calling import probe
from relay.probe.result import Cause, ProbeResult, Stage, StageName

__all__ = ["Cause", "ProbeResult", "Stage", "StageName", "probe"]
