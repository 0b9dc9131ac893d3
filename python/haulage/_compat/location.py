"""Where the compatible interface keeps its jobs.

A queue and a table are on AWS, unless ``HAULAGE_URL`` names another place: then all of them
are there. ``{queue}`` and ``{table}`` in it stand for the names, for more than one queue; a
URL in place of a queue's name goes before it.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, TypedDict, cast
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
    verify: bool | str | None
    api_version: str | None
    config: object


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


def _after_fork() -> None:
    # The child connects for itself, and another thread may have held the lock.
    global _lock
    _clients.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


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
    """Refuses what boto3's clients do not know either; and on AWS, what has no meaning here."""
    for name in settings:
        if name not in _SETTINGS:
            raise TypeError(f"unknown client setting {name!r}; known are {', '.join(sorted(_SETTINGS))}")
    if elsewhere() is not None:
        return
    more = sorted(_of_config(settings).keys() - {"region_name"})
    if more:
        raise ConfigError(
            f"config= sets {', '.join(more)}, and nothing but its region_name has an effect here; leave it "
            "out, and set it in the environment where the SDKs of AWS have a variable for it, such as "
            "AWS_MAX_ATTEMPTS"
        )
    verify, version = settings.get("verify"), settings.get("api_version")
    if isinstance(verify, str):
        raise ConfigError(
            f"verify={verify!r} has no effect here; set SSL_CERT_FILE={verify} in the environment"
        )
    if verify not in (None, True):
        raise ConfigError(
            f"verify={verify!r}: certificates are always checked; SSL_CERT_FILE in the environment names a "
            "file with those to trust"
        )
    if version not in (None, api_version):
        raise ConfigError(f"api_version={version!r} is not {api_version}, which is the one that is spoken")


def _of_config(settings: Mapping[str, object]) -> Mapping[str, object]:
    """What was said to botocore's ``Config``, by name."""
    config = settings.get("config")
    if config is None:
        return {}
    # It has no public name for it; all else that it has are defaults.
    said: object = getattr(config, "_user_provided_options", None)
    return cast("dict[str, object]", said) if isinstance(said, dict) else {type(config).__name__: config}


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
    settings, of_table = _given(settings), _given(of_table or {})
    first, of_both = {"table": table}, _aws({**of_table, **settings}, "SQS", "DYNAMODB")
    own = {f"table_{name}": value for name, value in _aws(of_table, "DYNAMODB").items()}
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
    # What `HAULAGE_URL` says of the same table on AWS, such as the bucket, holds here, too.
    name, _, query = _table_url(os.environ.get("HAULAGE_URL", "")).partition("://")[2].partition("?")
    known = dict(parse_qsl(query)) if unquote(name) == table else {}
    parameters = {**known, **_aws(_given(settings), "DYNAMODB")}
    return Place("", f"dynamodb://{quote(table)}?{_query(parameters)}", _credentials(settings))


def _aws(settings: ClientSettings, *services: str) -> dict[str, str]:
    if settings.get("use_ssl") is False and not settings.get("endpoint_url"):
        for service in services:
            if not _has_plain_endpoint(service):
                raise ConfigError(
                    "use_ssl=False needs an endpoint that begins with http://; give endpoint_url, or set "
                    f"AWS_ENDPOINT_URL_{service} or AWS_ENDPOINT_URL in the environment"
                )
    given = {"region": settings.get("region_name"), "endpoint": settings.get("endpoint_url")}
    return {name: value for name, value in given.items() if value}


def _has_plain_endpoint(service: str) -> bool:
    """Whether the environment names an endpoint without TLS for this service."""
    own = os.environ.get(f"AWS_ENDPOINT_URL_{service}")
    return (own or os.environ.get("AWS_ENDPOINT_URL", "")).startswith("http://")


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


_OF_TABLE = frozenset({"bucket", "endpoint", "keep_successes", "profile", "region"})


def _credentials(settings: ClientSettings) -> Credentials | None:
    key, secret = settings.get("aws_access_key_id"), settings.get("aws_secret_access_key")
    if not key and not secret:
        return None
    if not key or not secret:
        raise ConfigError("aws_access_key_id and aws_secret_access_key go together, and one is missing")
    return (key, secret, settings.get("aws_session_token"))


def _given(settings: ClientSettings) -> ClientSettings:
    """What is set, wherever it was said."""
    given: ClientSettings = {k: v for k, v in settings.items() if v is not None}  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    region = _of_config(settings).get("region_name")
    if region:
        given.setdefault("region_name", str(region))
    return given
