"""Moments, as the core tells them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def moment(micros: int) -> datetime:
    """The moment so many microseconds after the Unix epoch, in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def micros(at: datetime) -> int:
    """The other way round."""
    return (at - _EPOCH) // timedelta(microseconds=1)
