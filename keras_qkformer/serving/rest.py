"""One request over HTTP with a deadline for all of it and a bound on the answer.

The timeout of a socket holds for each part that comes; a server could send a byte from
time to time for ever.
"""

import functools
import http.client
import io
import json
import time
import urllib.error
import urllib.request

from keras_qkformer.printable import printable

_PART = 1 << 20  # Bytes to read at once, so that room is made only for what comes.
_ERROR_BYTES = 1 << 16


class Busy(Exception):
    """The request failed, and may be sent again."""


class Rest:
    """Sends one request and reads its answer, JSON.

    Redirections are not followed: they could lead to another host.

    Args:
        seconds: float. Time for connecting, sending and the whole answer. Looking up
            the host's address is left to the system, which has its own limit.
        max_bytes: int > 0. The largest answer.
    """

    def __init__(self, seconds, max_bytes):
        self._end = time.monotonic() + seconds
        self._max_bytes = max_bytes
        self._open = urllib.request.build_opener(
            _Http(self._end), _Https(self._end), _NoRedirect()
        ).open

    def ask(self, url, body=None):
        """Return the answer's value.

        Args:
            url: str.
            body: value that JSON can hold, or `None` to get rather than post.

        Raises:
            Busy: if the server is busy or can't be reached.
            ValueError: if it refuses the request.
            OSError: if it fails, or its answer is late, too large or no JSON.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, data, headers)
        left = max(self._end - time.monotonic(), 1e-3)
        try:
            try:
                with self._open(request, timeout=left) as response:
                    return parse_answer(url, self._read(response))
            except urllib.error.HTTPError as error:
                with error:
                    failure = _failure(
                        url, error.code, error.reason, error.read(_ERROR_BYTES)
                    )
        except _Answer:
            raise
        except ValueError as error:  # A chunk of no size.
            raise OSError(f"{url} answers something else than HTTP") from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, TimeoutError):
                raise OSError(f"{url} has not answered in time") from error
            told = printable(str(reason) or type(reason).__name__)
            raise Busy(f"{url} can't be reached: {told}") from error
        raise failure

    def _read(self, response):
        parts, size = [], 0
        while part := response.read(_PART):
            parts.append(part)
            size += len(part)
            if size > self._max_bytes:
                raise _Answer(
                    f"{response.url} answers more than {self._max_bytes} bytes"
                )
        return b"".join(parts)


class _Answer(OSError):
    """The server answers something that it should not."""


def parse_answer(url, body):
    """Return the value of an answer's JSON.

    Args:
        url: str. Who answers, for the message.
        body: bytes.

    Raises:
        OSError: if it is no JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _Answer(
            f"{url} answers something else than JSON: {printable(str(error))}"
        ) from error


def _failure(url, status, reason, body):
    """Return the exception for a status of HTTP, with the server's message."""
    try:
        message = json.loads(body)["error"]
    except (ValueError, RecursionError, LookupError, TypeError):
        message = body.decode(errors="replace") or reason
    text = f"{url} answers {status}: {printable(str(message), 1000)}"
    if status in (429, 503, 504):
        return Busy(text)
    return (ValueError if 400 <= status < 500 else OSError)(text)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves redirections as the errors that they are without this handler."""

    def redirect_request(self, *_):
        return None


class _TimedReader(io.RawIOBase):
    """Reads a socket until the deadline."""

    def __init__(self, sock, end):
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)  # Keeps the socket open.
        self._end = end

    def readable(self):
        return True

    def readinto(self, buffer):
        self._sock.settimeout(_left(self._end))
        return self._raw.readinto(buffer)

    def close(self):
        self._raw.close()
        super().close()


class _TimedSocket:
    """What `http.client` needs of a socket to read an answer."""

    def __init__(self, sock, end):
        self._reader = _TimedReader(sock, end)

    def makefile(self, _):
        return io.BufferedReader(self._reader)


def _left(end):
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class _Timed:
    """The part that connections with and without TLS share."""

    def __init__(self, *arguments, end, **options):
        super().__init__(*arguments, **options)
        self._end = end

    def response_class(self, sock, *arguments, **options):
        timed = _TimedSocket(sock, self._end)
        return http.client.HTTPResponse(timed, *arguments, **options)

    def send(self, data):
        if self.sock is not None:
            self.sock.settimeout(_left(self._end))
        super().send(data)


class _HttpConnection(_Timed, http.client.HTTPConnection):
    pass


class _HttpsConnection(_Timed, http.client.HTTPSConnection):
    pass


class _Http(urllib.request.HTTPHandler):
    def __init__(self, end):
        super().__init__()
        self._connection = functools.partial(_HttpConnection, end=end)

    def http_open(self, request):
        return self.do_open(self._connection, request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, end):
        super().__init__()
        self._connection = functools.partial(_HttpsConnection, end=end)

    def https_open(self, request):
        return self.do_open(self._connection, request)
