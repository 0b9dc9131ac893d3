"""Where the compatible interface keeps its jobs.

A queue and a table are on AWS, unless ``HAULAGE_URL`` names another place: then all of them
are there. ``{queue}`` and ``{table}`` in it stand for the names, for more than one queue; a
URL in place of a queue's name goes before it.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import parse_qsl, quote, unquote

from .. import _haulage, _log
from .._client import Client
from ..errors import ConfigError, HaulageError
from .errors import SQSConnectionError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

Credentials = tuple[str, str, "str | None"]


class ClientSettings(TypedDict, total=False):
    """How to reach AWS, by boto3's names. Default: as its environment and profiles say."""

    region_name: str | None
    endpoint_url: str | None
    aws_access_key_id: str | None
    aws_secret_access_key: str | None
    aws_session_token: str | None
    use_ssl: bool | None
    verify: bool | None
    api_version: str | None
    config: None


_SETTINGS = frozenset(ClientSettings.__annotations__)


class Place:
    """A place, and what connects to it, which is made when it is first used."""

    def __init__(
        self,
        url: str,
        table_url: str | None = None,
        credentials: Credentials | None = None,
        table_credentials: Credentials | None = None,
    ) -> None:
        self.url = url
        """Of the queue and its records; empty where no queue is known."""
        self._table_url = table_url
        self._credentials = credentials
        self._table_credentials = table_credentials
        """Where they are not those of the queue."""
        self._client: Client | None = None
        self._table: _haulage.Records | None = None

    @property
    def records(self) -> str:
        """What is the same for all places whose records are in one table."""
        return self._table_url or self.url

    @property
    def client(self) -> Client:
        """The client, the same for all that use this place."""
        if self._client is None:
            self._client = _shared(self.url, self._credentials, self._table_credentials)
        return self._client

    @property
    def table(self) -> _haulage.Records | None:
        """The table on AWS; ``None`` elsewhere."""
        if self._table is None and self._table_url is not None:
            if not _haulage.AWS:
                raise ConfigError(
                    "this build of haulage has no AWS; build the package with the feature `aws`"
                )
            credentials = self._table_credentials or self._credentials
            self._table = _haulage.connect_records(self._table_url, credentials).wait()
        return self._table


_clients: weakref.WeakValueDictionary[tuple[object, ...], Client] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def _shared(url: str, *credentials: Credentials | None) -> Client:
    key = (url, *credentials)
    with _lock:
        client = _clients.get(key)
    if client is None:
        _log.refresh()
        # Not under the lock: one place that is slow must not keep others waiting.
        made = Client(_haulage.connect(url, *credentials).wait(), url)
        with _lock:
            client = _clients.setdefault(key, made)
    return client


def check_settings(settings: Mapping[str, object], api_version: str) -> None:
    """Refuses what boto3's clients do not know either, and what has no meaning here."""
    for name, value in settings.items():
        if name not in _SETTINGS:
            raise TypeError(f"unknown client setting {name!r}; known are {', '.join(sorted(_SETTINGS))}")
        if name == "config" and value is not None:
            raise ConfigError(
                "config= is botocore's, and sets nothing here; give region_name and endpoint_url, and the "
                "rest by the environment of AWS's SDKs, such as AWS_MAX_ATTEMPTS"
            )
        if name == "verify" and value not in (None, True):
            raise ConfigError(
                f"verify={value!r}: certificates are always checked, against those that the system trusts"
            )
        if name == "api_version" and value not in (None, api_version):
            raise ConfigError(f"api_version={value!r} is not {api_version}, which is the one that is spoken")


def ping(where: Place) -> Literal["pong"]:
    """Whether the queue and the place of the records answer."""
    try:
        where.client.ping()
    except HaulageError as error:
        raise SQSConnectionError(str(error)) from error
    return "pong"


def elsewhere() -> str | None:
    """The place that the environment names, where it is not AWS."""
    url = os.environ.get("HAULAGE_URL", "")
    return None if not url or url.startswith("sqs:") else url


def place(
    queue: str,
    table: str,
    settings: ClientSettings,
    of_table: ClientSettings | None = None,
    more: Mapping[str, str] | None = None,
) -> Place:
    """The place of a queue and a table, with the settings of each; ``more`` are parameters for AWS.

    What is set of one of them alone holds for both.

    Where ``HAULAGE_URL`` is that of the same queue on AWS, what it says besides, such as the
    bucket, holds here, too.
    """
    if "://" in queue:
        return Place(queue, _table_url(queue) if queue.startswith("sqs:") else None)
    url = elsewhere()
    if url is not None:
        return Place(_filled_in(_filled_in(url, "queue", queue), "table", table))
    of_table = of_table or {}
    first, of_both = {"table": table}, _aws({**of_table, **_given(settings)})
    own = {f"table_{name}": value for name, value in _aws(of_table).items()}
    parameters = {**first, **_environment(queue), **of_both, **own, **first, **(more or {})}
    for name, value in of_both.items():
        if parameters.get(f"table_{name}") == value:
            del parameters[f"table_{name}"]
    url = f"sqs://{quote(queue)}?{_query(parameters)}"
    of_queue, of_records = _credentials(settings), _credentials(of_table)
    if of_queue is None or of_queue == of_records:
        return Place(url, _table_url(url), of_records)
    return Place(url, _table_url(url), of_queue, of_records)


def _filled_in(url: str, what: str, name: str) -> str:
    """The URL with a name in it, which becomes part of a path and must lead nowhere else."""
    place = f"{{{what}}}"
    if place not in url:
        return url
    if name in {"", ".", ".."} or any(c in name for c in "/\\\0"):
        raise ValueError(f"{name!r} is not a name for a {what}: it must not be empty, `..`, or hold a slash")
    return url.replace(place, quote(name, safe=""))


def table_place(table: str, settings: ClientSettings) -> Place:
    """The place of a table on AWS, where no queue is known."""
    return Place("", f"dynamodb://{quote(table)}?{_query(_aws(settings))}", _credentials(settings))


def _aws(settings: ClientSettings) -> dict[str, str]:
    if settings.get("use_ssl") is False and not settings.get("endpoint_url"):
        raise ConfigError("use_ssl=False needs an endpoint_url that begins with http://")
    given = {"region": settings.get("region_name"), "endpoint": settings.get("endpoint_url")}
    return {name: value for name, value in given.items() if value}


def _environment(queue: str) -> dict[str, str]:
    name, _, query = os.environ.get("HAULAGE_URL", "").partition("://")[2].partition("?")
    return dict(parse_qsl(query)) if unquote(name) == queue else {}


def _query(parameters: Mapping[str, str]) -> str:
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())


def _table_url(url: str) -> str:
    """The table alone of a queue's URL."""
    queue, _, query = url.partition("://")[2].partition("?")
    parameters = dict(parse_qsl(query))
    table = parameters.get("table") or unquote(queue).rsplit("/", 1)[-1].removesuffix(".fifo")
    own = {name[6:]: value for name, value in parameters.items() if name.startswith("table_")}
    concerned = {name: value for name, value in {**parameters, **own}.items() if name in _OF_TABLE}
    return f"dynamodb://{quote(table)}?{_query(concerned)}"


_OF_TABLE = frozenset({"bucket", "endpoint", "profile", "region"})


def _credentials(settings: ClientSettings) -> Credentials | None:
    key, secret = settings.get("aws_access_key_id"), settings.get("aws_secret_access_key")
    if not key and not secret:
        return None
    if not key or not secret:
        raise ConfigError("aws_access_key_id and aws_secret_access_key go together, and one is missing")
    return (key, secret, settings.get("aws_session_token"))


def _given(settings: ClientSettings) -> ClientSettings:
    given: ClientSettings = {k: v for k, v in settings.items() if v is not None}  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    return given
