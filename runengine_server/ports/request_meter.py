"""What the surfaces tell whoever measures them: which requests were answered, how and how fast. Never raises."""

from typing import Protocol


class RequestMeter(Protocol):
    """Requests, once they are answered; nothing of their content."""

    def rpc_answered(self, method: str, code: str, duration_s: float | None) -> None:
        """A gRPC call has ended.

        Args:
            method: its full name, or `unknown` for one that is not served.
            code: the status, such as OK.
            duration_s: until the answer; None of a stream.
        """

    def http_answered(self, route: str, verb: str, status: int, duration_s: float) -> None:
        """An HTTP request was answered.

        Args:
            route: the template of its path, `unknown` where nothing is.
            verb: GET, POST …, `other` for what HTTP does not know.
            status: of the answer; 499 where the client left before it.
            duration_s: until the answer began.
        """
