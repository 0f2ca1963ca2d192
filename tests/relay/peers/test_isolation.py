from twisted.internet.defer import CancelledError

from relay.peers.isolation import Mutex


def ask(mutex, alone):
    state = []
    waiting = mutex.acquire(alone=alone)
    waiting.addCallbacks(lambda _: state.append("held"), lambda failure: failure.trap(CancelledError))
    return state, waiting


def test_shared_holders_run_together_and_an_isolated_one_alone():
    mutex = Mutex()
    first, _ = ask(mutex, False)
    second, _ = ask(mutex, False)
    alone, _ = ask(mutex, True)
    late, _ = ask(mutex, False)
    assert (first, second, alone, late) == (["held"], ["held"], [], [])
    mutex.release()
    assert alone == []
    mutex.release()
    assert (alone, late) == (["held"], [])
    mutex.release()
    assert late == ["held"]


def test_who_waits_no_longer_blocks_nobody():
    mutex = Mutex()
    ask(mutex, False)
    alone, waiting = ask(mutex, True)
    late, _ = ask(mutex, False)
    waiting.cancel()
    assert (alone, late) == ([], ["held"])
