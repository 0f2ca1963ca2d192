"""What a Tentacle's services have in common: how a request finds its method, and what a failure says (wire.md 4.4 to 4.7)."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from relay.peers.contracts import CAPABILITIES, FILES, SCRIPTS_V1, SCRIPTS_V2, ContractError, capabilities_document
from relay.peers.errors import ServiceError
from relay.peers.messages import ErrorReply, Request, Response

_log = Logger()
_INVOKED = "System.Reflection.TargetInvocationException: Exception has been thrown by the target of an invocation."
_END = "   --- End of inner exception stack trace ---"
_AT_METHOD = "   at Halibut.ServiceModel.ServiceInvoker.InvokeAsyncMethod(MethodInfo method, Object obj, Object[] parameters)"
_AT_INVOKE = "   at Halibut.ServiceModel.ServiceInvoker.InvokeAsync(RequestMessage requestMessage)"
_UNKNOWN_SERVICE = "Octopus.Tentacle.Communications.UnknownServiceNameException"
_METHOD_NOT_FOUND = "Halibut.Exceptions.MethodNotFoundHalibutClientException"
_AMBIGUOUS = "Halibut.Exceptions.AmbiguousMethodMatchHalibutClientException"

Method = Callable[..., Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Service:
    """name: as in a request's service. dotnet_type: the class that real ones implement it by. methods: by plain name.

    A method takes the request's params and gives the result; it raises ServiceError to refuse, ContractError for params that
    are not what they must be.
    """

    name: str
    dotnet_type: str
    methods: Mapping[str, Method]


def capabilities() -> Service:
    """ICapabilitiesServiceV2."""

    async def get_capabilities() -> object:
        return capabilities_document([SCRIPTS_V1, FILES, SCRIPTS_V2])

    dotnet_type = "Octopus.Tentacle.Services.Capabilities.CapabilitiesServiceV2"
    return Service(CAPABILITIES, dotnet_type, {"GetCapabilities": get_capabilities})


class Services:
    """Calls what a request names."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._services = {service.name: service for service in services}

    async def answer(self, request: Request) -> Response:
        """The reply: the method's result, or what went wrong. Raises nothing but CancelledError."""
        try:
            method = self._method(request)
            return Response(request.id, await method(*request.params))
        except CancelledError:
            raise
        except ServiceError as error:
            return Response(request.id, error=_reply(error))
        except ContractError as error:
            return Response(request.id, error=_reply(_mismatch(request, str(error))))
        except Exception as error:
            # A fault of the method itself. The caller hears what a real one's would; the log keeps the trace.
            _log.failure("{service}.{method} failed", service=request.service, method=request.method)
            return Response(request.id, error=_reply(ServiceError("System.Exception", f"{type(error).__name__}: {error}")))

    def _method(self, request: Request) -> Method:
        # Real Tentacles compare the service with case, the method without (wire.md 4.4).
        service = self._services.get(request.service)
        if service is None:
            message = f"Error: {request.service} has not been registered through an IAutofacServiceSource"
            raise ServiceError(_UNKNOWN_SERVICE, message, invoked=False)
        for name, method in service.methods.items():
            if name.lower() == request.method.lower():
                try:
                    inspect.signature(method).bind(*request.params)
                except TypeError as error:
                    raise _mismatch(request, str(error)) from error
                return method
        message = f"Method {service.dotnet_type}::{request.method}Async not found"
        raise ServiceError(_METHOD_NOT_FOUND, message, halibut=True, invoked=False)


def _mismatch(request: Request, why: str) -> ServiceError:
    message = (
        "Could not decide which candidate to call out of the following methods:\n"
        f" - {request.method}Async\nThe request arguments were:\n{len(request.params)} ({why})\n"
    )
    return ServiceError(_AMBIGUOUS, message, halibut=True, invoked=False)


def _reply(error: ServiceError) -> ErrorReply:
    cause = f"{error.dotnet_type}: {error.message}"
    details = f"{_INVOKED}\n ---> {cause}\n{_END}\n{_AT_METHOD}" if error.invoked else f"{cause}\n{_AT_INVOKE}"
    return ErrorReply(error.message, details, error.dotnet_type if error.halibut else None)
