from typing import Any

import pytest

from benchmarks.workloads import _figures

GOT: dict[str, Any] = {"rpc": 2000, "rpc_per_s": 500.0, "mb": 0.0, "mb_per_s": 0.0, "p50_ms": 1.0, "p99_ms": 2.0}


def test_calls_have_a_rate_and_cpu_in_microseconds() -> None:
    assert _figures("rpc", GOT, 0.5) == {"rate": 500.0, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_us": pytest.approx(250)}


def test_streams_have_bytes_and_cpu_by_the_billion_of_them() -> None:
    got = {**GOT, "rpc": 20, "mb": 4000.0, "mb_per_s": 1000.0}
    assert _figures("stream", got, 6.0) == {"mb_per_s": 1000.0, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_s_per_gb": 1.5}


def test_no_proxy_has_no_cpu() -> None:
    assert _figures("rpc", GOT, None) == {"rate": 500.0, "p50_ms": 1.0, "p99_ms": 2.0}


def test_without_one_good_call_there_is_no_figure() -> None:
    assert _figures("rpc", {**GOT, "rpc": 0}, 0.5) == {}
