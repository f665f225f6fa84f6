"""What an HTTP request for the metrics is answered, from the bytes of its head. Pure.

Two paths, two methods, no body, one request for each connection. Invariant: nothing of what was asked stands in the
answer.
"""

from __future__ import annotations

HEAD_MAX = 8192
_PATHS = (b"/", b"/metrics")


def complete(head: bytes) -> bool:
    """Whether the whole head of the request is there (RFC 9112 section 2.1), or it is too long to wait for more."""
    return b"\r\n\r\n" in head or b"\n\n" in head or len(head) > HEAD_MAX


def refusal(head: bytes) -> bytes | None:
    """The answer to a request that is not one for the metrics; None for one that is."""
    if len(head) > HEAD_MAX:
        return _answer(b"431 Request Header Fields Too Large")
    words = head.split(b"\n", 1)[0].rstrip(b"\r").split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return _answer(b"400 Bad Request")
    if words[0] not in (b"GET", b"HEAD"):
        return _answer(b"405 Method Not Allowed", b"Allow: GET, HEAD\r\n")
    if words[1].partition(b"?")[0] not in _PATHS:
        return _answer(b"404 Not Found", text=b"the metrics are at /metrics\n")
    return None


def answer(head: bytes, text: bytes, kind: str) -> bytes:
    """The answer to a request for the metrics."""
    whole = _answer(b"200 OK", kind=kind.encode(), text=text)
    return whole[: whole.index(b"\r\n\r\n") + 4] if head.startswith(b"HEAD ") else whole


def _answer(status: bytes, more: bytes = b"", *, kind: bytes = b"text/plain", text: bytes = b"") -> bytes:
    text = text or status + b"\n"
    return (
        b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%bX-Content-Type-Options: nosniff\r\n"
        b"Connection: close\r\n\r\n%b" % (status, kind, len(text), more, text)
    )
