"""Where the established interface keeps its jobs.

A queue and a table are on AWS, unless ``HAULAGE_URL`` names another place: then all of them
are there. ``{queue}`` and ``{table}`` in it stand for the names, for more than one queue; a
URL in place of a queue's name goes before it.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import quote

from . import _haulage, _log
from ._client import Client
from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

Credentials = tuple[str, str, "str | None"]


class ClientSettings(TypedDict, total=False):
    """How to reach AWS, by boto3's names. Default: as its environment and profiles say."""

    region_name: str | None
    endpoint_url: str | None
    aws_access_key_id: str | None
    aws_secret_access_key: str | None
    aws_session_token: str | None
    use_ssl: bool | None


_SETTINGS = frozenset(ClientSettings.__annotations__)


class Place:
    """A place, and the client for it, which is made when it is first used."""

    def __init__(self, url: str, credentials: Credentials | None = None) -> None:
        self.url = url
        self._credentials = credentials
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The client, the same for all that use this place."""
        if self._client is None:
            self._client = _shared(self.url, self._credentials)
        return self._client


_clients: weakref.WeakValueDictionary[tuple[str, Credentials | None], Client] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def _shared(url: str, credentials: Credentials | None) -> Client:
    with _lock:
        client = _clients.get((url, credentials))
        if client is None:
            _log.refresh()
            client = Client(_haulage.connect(url, credentials).wait(), url)
            _clients[url, credentials] = client
        return client


def check_settings(settings: Mapping[str, object]) -> None:
    """Refuses what boto3's clients do not know either."""
    for name in settings:
        if name not in _SETTINGS:
            raise TypeError(f"unknown client setting {name!r}; known are {', '.join(sorted(_SETTINGS))}")


def elsewhere() -> str | None:
    """The place that the environment names, where it is not AWS."""
    url = os.environ.get("HAULAGE_URL", "")
    return None if not url or url.startswith("sqs:") else url


def place(queue: str, table: str, settings: ClientSettings, more: Mapping[str, str] | None = None) -> Place:
    """The place of a queue and a table; ``more`` are parameters for AWS."""
    if "://" in queue:
        return Place(queue)
    url = elsewhere()
    if url is not None:
        return Place(url.replace("{queue}", quote(queue)).replace("{table}", quote(table)))
    if settings.get("use_ssl") is False and not settings.get("endpoint_url"):
        raise ConfigError("use_ssl=False needs an endpoint_url that begins with http://")
    parameters = {
        "table": table,
        "region": settings.get("region_name"),
        "endpoint": settings.get("endpoint_url"),
        **(more or {}),
    }
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items() if value)
    return Place(f"sqs://{quote(queue)}?{query}", _credentials(settings))


def _credentials(settings: ClientSettings) -> Credentials | None:
    key, secret = settings.get("aws_access_key_id"), settings.get("aws_secret_access_key")
    if not key and not secret:
        return None
    if not key or not secret:
        raise ConfigError("aws_access_key_id and aws_secret_access_key go together, and one is missing")
    return (key, secret, settings.get("aws_session_token"))


def merged(first: ClientSettings, second: ClientSettings) -> ClientSettings:
    """The settings of a queue, completed by those of its table, which must not differ."""
    for name in ("region_name", "endpoint_url"):
        one, other = first.get(name), second.get(name)
        if one and other and one != other:
            raise ConfigError(
                f"{name} is {one} for the queue and {other} for the table; give it once, or set "
                "AWS_ENDPOINT_URL_SQS and AWS_ENDPOINT_URL_DYNAMODB"
            )
    result: ClientSettings = {**second, **{k: v for k, v in first.items() if v is not None}}  # type: ignore[typeddict-item]  # pyright: ignore[reportAssignmentType]
    return result
