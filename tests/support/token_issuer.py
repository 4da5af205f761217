"""An issuer of JSON Web Tokens: keys, tokens, and an HTTP server that publishes what may be known of the keys."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jws, jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

ISSUER = "https://issuer.example/"
AUDIENCE = "runengine"


def new_key(kid: str, algorithm: str = "ES256") -> Key:
    """A key pair for an algorithm."""
    parameters: Any = {"kid": kid, "use": "sig"}
    if algorithm in ("RS256", "PS256"):
        return RSAKey.generate_key(2048, parameters)
    if algorithm in ("EdDSA", "Ed25519"):
        return OKPKey.generate_key("Ed25519", parameters)
    return ECKey.generate_key("P-256", parameters)


def key_set(*keys: Key) -> bytes:
    """What an issuer publishes of the keys."""
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode()


def claims_of(**changes: object) -> dict[str, object]:
    """Claims that are right for a minute, but for the changes; None leaves a claim out."""
    now = int(time.time())
    claims: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ann",
        "tenant": "acme",
        "scope": "run:read run:write openid",
        "exp": now + 60,
        "iat": now,
    }
    return {name: value for name, value in {**claims, **changes}.items() if value is not None}


class _AnyAlgorithm(jws.JWSRegistry):
    """Signs with whatever a test asks for, without advice."""

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


def signed(key: Key, claims: Mapping[str, object], algorithm: str = "ES256", **header: object) -> str:
    """A token; `header` changes its header, None leaves a field out."""
    full = {"alg": algorithm, "kid": key.kid, **header}
    registry = _AnyAlgorithm(strict_check_header=False)
    kept = {name: value for name, value in full.items() if value is not None}
    return jwt.encode(kept, dict(claims), key, registry=registry)


class TokenIssuer:
    """Publishes `content` with `status` at `url`, and counts in `asked` and `arrivals` how often it was asked."""

    def __init__(self, url: str, content: bytes) -> None:
        """Publish this."""
        self.url = url
        self.content = content
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked = 0
        self.arrivals = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()


@contextmanager
def token_issuer(content: bytes) -> Iterator[TokenIssuer]:
    """A server on a free port; clear `gate` and it does not answer before it is set."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            issuer.arrivals.release()
            issuer.gate.wait(10)
            body, status = issuer.content, issuer.status
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            for name, value in issuer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Whoever hung up has seen enough."""

    server = Server(("127.0.0.1", 0), Handler)
    issuer = TokenIssuer(f"http://127.0.0.1:{server.server_port}/jwks.json", content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        issuer.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
