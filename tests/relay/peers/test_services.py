import uuid

import pytest
import pytest_twisted

from relay.peers.contracts import ContractError
from relay.peers.errors import ServiceError
from relay.peers.messages import Request
from relay.peers.services import Service, Services, capabilities

INVOKED = "System.Reflection.TargetInvocationException: Exception has been thrown by the target of an invocation."


async def add(a, b):
    if a == "refuse":
        raise ServiceError("System.IO.FileNotFoundException", "Could not find /nowhere/at/all")
    if a == "mismatch":
        raise ContractError("a is no number")
    return a + b


SERVICES = Services([capabilities(), Service("IAddService", "Program.Adder", {"Add": add})])


def ask(service, method, *params):
    return SERVICES.answer(Request("the id", uuid.uuid4(), {}, service, method, list(params)))


@pytest_twisted.ensureDeferred
async def test_a_result():
    response = await ask("IAddService", "Add", 1, 2)
    assert (response.id, response.result, response.error) == ("the id", 3, None)


@pytest_twisted.ensureDeferred
async def test_methods_are_found_without_case_services_with():
    assert (await ask("IAddService", "aDD", 1, 2)).result == 3
    assert (await ask("iaddservice", "Add", 1, 2)).error is not None


@pytest_twisted.ensureDeferred
async def test_capabilities():
    response = await ask("ICapabilitiesServiceV2", "GetCapabilities")
    assert response.result["SupportedCapabilities"] == ["IScriptService", "IFileTransferService", "IScriptServiceV2"]


@pytest_twisted.ensureDeferred
async def test_an_unknown_service_reads_as_a_real_tentacle_says_it():
    error = (await ask("IMissingService", "Anything", "x")).error
    assert error.message == "Error: IMissingService has not been registered through an IAutofacServiceSource"
    assert error.details.startswith(f"Octopus.Tentacle.Communications.UnknownServiceNameException: {error.message}")
    assert error.halibut_error_type is None


@pytest_twisted.ensureDeferred
async def test_an_unknown_method_names_a_halibut_type():
    error = (await ask("IAddService", "Subtract")).error
    assert error.message == "Method Program.Adder::SubtractAsync not found"
    assert error.halibut_error_type == "Halibut.Exceptions.MethodNotFoundHalibutClientException"
    assert error.details.startswith(f"{error.halibut_error_type}: {error.message}")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("params", [(), (1,), (1, 2, 3), ("mismatch", 1)])
async def test_params_that_do_not_fit(params):
    error = (await ask("IAddService", "Add", *params)).error
    assert error.halibut_error_type == "Halibut.Exceptions.AmbiguousMethodMatchHalibutClientException"
    assert error.message.startswith("Could not decide which candidate to call out of the following methods:")


@pytest_twisted.ensureDeferred
async def test_a_refusal_reads_as_recorded():
    error = (await ask("IAddService", "Add", "refuse", 1)).error
    assert error.message == "Could not find /nowhere/at/all"
    first, second = error.details.splitlines()[:2]
    assert first == INVOKED
    assert second == " ---> System.IO.FileNotFoundException: Could not find /nowhere/at/all"
    assert error.halibut_error_type is None


@pytest_twisted.ensureDeferred
async def test_a_fault_of_the_method_becomes_an_error_reply():
    error = (await ask("IAddService", "Add", 1, "x")).error
    assert error.message.startswith("TypeError: ")
    assert error.details.startswith(INVOKED)
