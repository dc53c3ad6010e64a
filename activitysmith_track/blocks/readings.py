"""Readings: grids of them, one prominent value, a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from .._lazy import Lazy
from .._text import LONGEST_PUSH
from ..errors import InvalidRequest
from .handle import Handle, note, refuses, touch
from .option_table import check_period
from .outcome import LOOKS
from .states import StateBuilder
from .values import finite, fit

if TYPE_CHECKING:
    from .. import payloads
else:
    payloads = Lazy("payloads")


class Sampled(Handle):
    """A handle that can call a function for its values, on one thread that all such handles share."""

    _own: ClassVar[tuple[str, ...]] = ("sample", "every")
    _made_with: ClassVar[Mapping[str, str]] = MappingProxyType({"sample": "_sample", "every": "_every"})

    def __init__(self, name: str, sample: Any, every: Any, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        if sample is not None and not callable(sample):
            raise InvalidRequest("sample", sample, "a callable without arguments")
        check_period("every", every)
        self._sample, self._every = sample, every

    def begin(self) -> None:
        """Open the block, and have its function called from then on."""
        super().begin()
        if self._sample is not None and self._account is not None:
            self._display.sampling = sampling = _Sampling(self)
            self._tracker.dispatcher.sample(sampling)


class _Sampling:
    """The task of the sampling thread for one handle."""

    def __init__(self, handle: Sampled) -> None:
        self._handle, self._opened = handle, handle._opened

    def give_up(self) -> None:
        """Sample no more."""

    def run(self, now: float) -> float | None:
        handle = self._handle
        if not handle.is_open or handle._opened != self._opened:
            return None
        try:
            handle.set(handle._sample())
        except Exception as problem:
            note(handle, "sample", "its sample callable failed: %r", problem)
        return now + float(handle._every) if handle.is_open else None


class _MetricsBuilder(StateBuilder["Metrics"]):
    """Builds the states of up to eight readings."""

    keeps_readings = True

    def running(self, handle: Metrics) -> dict[str, Any] | None:
        readings = [each for each in handle._readings.values() if "value" in each]
        return {"metrics": readings[: payloads.MAX_METRICS]} if readings else None  # threads may have added more

    def detail(self, handle: Metrics) -> object:
        numbers, readings = self.numbers(handle), handle._readings
        texts = {label: {**each, "value": None} if label in numbers else each for label, each in readings.items()}
        return super().detail(handle), texts

    def numbers(self, handle: Metrics) -> Mapping[str, float]:
        values = {label: each.get("value") for label, each in handle._readings.items()}
        return {label: value for label, value in values.items() if isinstance(value, (int, float))}

    def brief(self, handle: Metrics) -> str:
        first = next((each for each in handle._readings.values() if "value" in each), None)
        return f"{first['label']} {first['value']}" if first else ""


class _StatsBuilder(_MetricsBuilder):
    """Builds the states of readings in a stats card, which has no colour of its own."""

    def look(self, handle: Metrics, kind: str) -> dict[str, Any]:
        return {"icon": _tinted(handle, kind)}


def _tinted(handle: Handle, kind: str) -> dict[str, Any]:
    """Return the card's icon, in the colour of how the block ended."""
    color, symbol = LOOKS[kind]
    icon = handle._custom.get("icon") or handle._options.get("icon") or {"symbol": symbol}
    return {**icon, "color": color}


class Metrics(Sampled):
    """Up to eight readings: `live_metrics`."""

    type: ClassVar[str] = "metrics"
    _own = ("values", "sample", "every")
    _made_with = MappingProxyType({"values": "_declared", **Sampled._made_with})
    _builder: ClassVar[StateBuilder[Any]] = _MetricsBuilder()

    def __init__(
        self,
        name: str,
        values: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        sample: Callable[[], Mapping[str, Any]] | None = None,
        every: float = 60.0,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(name, sample, every, options)
        self._declared = _check_readings(values)
        self._reset()

    def _reset(self) -> None:
        self._readings: dict[str, dict[str, Any]] = {each["label"]: each for each in self._declared}

    def set(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Show readings by their labels; labels that were not declared are added, up to eight in all.

        Args:
            values: readings whose labels are no Python names.
            **more: readings by label: a number, or a text of up to 64 characters; NaN is skipped. The service takes
                a number below 0 as text only, so it travels as one.
        """
        changed: dict[str, dict[str, Any]] = {}
        try:
            for label, value in {**(values or {}), **more}.items():
                self._put(changed, fit(label), value)
        except Exception as problem:
            note(self, "set", "readings that cannot be read are skipped: %r", problem)
        self._readings = {**self._readings, **changed}  # last: other threads set other labels meanwhile
        touch(self)

    def _put(self, changed: dict[str, dict[str, Any]], label: str, value: Any) -> None:
        reading, readings = _reading(value), {**self._readings, **changed}
        if reading is None or not label:
            note(self, "value", "the value of %r cannot be shown and is skipped", label)
        elif label not in readings and len(readings) >= payloads.MAX_METRICS:
            note(self, "many", "only %d readings can be shown; %r is left out", payloads.MAX_METRICS, label)
        else:
            changed[label] = {**readings.get(label, {"label": label}), **reading}


class Stats(Metrics):
    """Up to eight readings in a grid: `live_stats`. It has no colour, so the icon tells how it ended."""

    type: ClassVar[str] = "stats"
    _builder = _StatsBuilder()


def _check_readings(values: Any) -> list[dict[str, Any]]:
    """Check declared readings: a mapping of labels to values, or a list of `Metric`."""
    if values is None:
        return []
    check = payloads.CONTENT_STATE["metrics"][0]
    if isinstance(values, Mapping):
        values = [_declared(label, value) for label, value in values.items()]
    elif isinstance(values, (list, tuple)):
        values = [_as_set(each) for each in values]
    checked: list[dict[str, Any]] = check("metrics", values) if values else []
    return checked


def _declared(label: Any, value: Any) -> Any:
    if isinstance(value, payloads.Metric):
        return {**value.given(), "label": label}
    return _as_set({**(value if isinstance(value, Mapping) else {"value": value}), "label": label})


def _as_set(metric: Any) -> Any:
    """Give a declared number the form that `set` would give it; anything else is left to the check."""
    value = metric.get("value") if isinstance(metric, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return metric
    return {**metric, **(_reading(value) or {})}


def _reading(value: Any) -> dict[str, Any] | None:
    """Turn a run-time value into the fields of a reading; `None` where it cannot be shown."""
    if isinstance(value, payloads.Metric):
        return {name: each for name, each in value.given().items() if name != "label"}
    if isinstance(value, str) or (value is not None and not hasattr(value, "__float__")):
        text = fit(value, payloads.MAX_VALUE_TEXT)
        return {"value": text} if text else None
    number = _number(value)
    if number is None:
        return None
    return {"value": number if number >= 0 else _written(number)}


def _written(number: float) -> str:
    """Write a negative number as text: the service takes none below 0 in a grid."""
    return str(number) if isinstance(number, int) else f"{number:.15g}"


def _number(value: Any) -> int | float | None:
    """Read a finite number: a whole one stays whole, others are rounded to the 15 digits that a float is sure of."""
    if isinstance(value, int) and abs(value) < 10**15:
        return int(value)
    number = finite(value)
    rounded = None if number is None else finite(f"{number:.15g}")
    return number if rounded is None else rounded  # the largest floats have no neighbour of 15 digits


class _ValueBuilder(StateBuilder["Value"]):
    """Builds the states of one prominent readout."""

    keeps_readings = True

    def running(self, handle: Value) -> dict[str, Any] | None:
        return None if handle._value is None else {"value": handle._value}

    def detail(self, handle: Value) -> object:
        return super().detail(handle), handle._value if isinstance(handle._value, str) else None

    def numbers(self, handle: Value) -> Mapping[str, float]:
        return {"value": handle._value} if isinstance(handle._value, (int, float)) else {}

    def brief(self, handle: Value) -> str:
        return "" if handle._value is None else str(handle._value)


class Value(Sampled):
    """One prominent readout: `live_value`. The card appears with the first `set`."""

    type: ClassVar[str] = "value"
    _builder = _ValueBuilder()

    def __init__(
        self,
        name: str,
        *,
        sample: Callable[[], Any] | None = None,
        every: float = 60.0,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(name, sample, every, options)
        self._reset()

    def _reset(self) -> None:
        self._value: str | int | float | None = None

    def set(self, value: Any = None, **labelled: Any) -> None:
        """Show a number, or a text that keeps its formatting; NaN, infinities and labelled readings are skipped."""
        if refuses(self, labelled):
            return
        if isinstance(value, str) or (value is not None and not hasattr(value, "__float__")):
            shown: str | int | float | None = fit(value)
        else:
            shown = _number(value)
        if shown is None or shown == "":
            note(self, "value", "%s cannot be shown and is skipped", fit(repr(type(value))))
            return
        self._value = shown
        touch(self)


class _AlertBuilder(StateBuilder["Alert"]):
    """Builds the states of a message."""

    keeps_readings = True

    def running(self, handle: Alert) -> dict[str, Any] | None:
        return {"message": handle._message} if handle._message else None

    def detail(self, handle: Alert) -> object:
        return super().detail(handle), handle._message

    def brief(self, handle: Alert) -> str:
        return handle._message

    def look(self, handle: Alert, kind: str) -> dict[str, Any]:
        return {"color": LOOKS[kind][0], "icon": _tinted(handle, kind)}


class Alert(Handle):
    """A message: `live_alert`. The card appears with the first `set`."""

    type: ClassVar[str] = "alert"
    _builder = _AlertBuilder()

    def __init__(self, name: str, *, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        self._reset()

    def _reset(self) -> None:
        self._message = ""

    def set(self, message: Any = "", **labelled: Any) -> None:
        """Show a message; an empty one and labelled readings are skipped."""
        if refuses(self, labelled):
            return
        text = fit(message, LONGEST_PUSH)
        if not text.strip():
            note(self, "message", "an empty message is skipped")
            return
        self._message = text
        touch(self)
