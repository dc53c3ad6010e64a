"""Settings that are changed for good, and for the length of blocks that may end in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SettingsT = TypeVar("SettingsT")  # the settings: a frozen dataclass whose fields are valid or not each by itself
SenderT = TypeVar("SenderT")  # what sends


class Layer(Generic[SenderT]):
    """What one block changes while it is open, and nothing else; each is equal to itself only.

    Args:
        changes: the new values, by the names of the settings' fields.
        dispatcher: what sends meanwhile; `None` leaves that as it is.
    """

    def __init__(self, changes: Mapping[str, Any], dispatcher: SenderT | None = None) -> None:
        self.changes, self.dispatcher = dict(changes), dispatcher


class _State(Generic[SettingsT, SenderT]):
    """The settings at one moment. It is never changed: another one follows it."""

    def __init__(self, base: SettingsT, layers: tuple[Layer[SenderT], ...]) -> None:
        self.base, self.layers = base, layers
        changes: dict[str, Any] = {}
        self.dispatcher: SenderT | None = None
        for layer in layers:
            changes.update(layer.changes)
            self.dispatcher = self.dispatcher if layer.dispatcher is None else layer.dispatcher
        self.current = _with_changes(base, changes)
        self.followers: dict[str, _State[SettingsT, SenderT]] = {}


class Layers(Generic[SettingsT, SenderT]):
    """A base of settings, and above it the layers of the blocks that are open; the newest layer wins.

    Threads may change it at the same time, and lose nothing of each other. There is no lock: whoever wants to change
    something builds the next state, and enters it as the follower of the newest one with `dict.setdefault`, which is
    one step that nothing can interrupt. Whoever finds that another one was faster begins again with the newer state.
    So a signal handler may interrupt a change and make one of its own, and a child that is forked in the middle of a
    change waits for nobody.

    It knows nothing of the tracker that it belongs to: who holds it does not keep the tracker alive.

    Args:
        base: the settings to begin with.
    """

    def __init__(self, base: SettingsT) -> None:
        self._known: _State[SettingsT, SenderT] = _State(base, ())

    @property
    def current(self) -> SettingsT:
        """The settings in force."""
        return self._newest().current

    @property
    def dispatcher(self) -> SenderT | None:
        """What sends, where a layer says so."""
        return self._newest().dispatcher

    @property
    def layers(self) -> tuple[Layer[SenderT], ...]:
        """The layers of the blocks that are open, the oldest first."""
        return self._newest().layers

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change the base; a layer goes on to hide what it names itself."""
        self._follow(lambda state: _State(_with_changes(state.base, changes), state.layers))

    def put(self, layer: Layer[SenderT]) -> SettingsT:
        """Lay one on top of all others, and return the settings that are in force then."""
        return self._follow(lambda state: _State(state.base, (*state.layers, layer))).current

    def remove(self, layer: Layer[SenderT]) -> None:
        """Take one away, wherever it lies; the others stay."""
        self._follow(lambda state: _State(state.base, tuple(each for each in state.layers if each is not layer)))

    def _newest(self) -> _State[SettingsT, SenderT]:
        state = self._known
        while state.followers:
            state = state.followers["next"]
        self._known = state  # may be an older one when threads meet here, and leads to the newest all the same
        return state

    def _follow(
        self, build: Callable[[_State[SettingsT, SenderT]], _State[SettingsT, SenderT]]
    ) -> _State[SettingsT, SenderT]:
        while True:
            newest = self._newest()
            made = build(newest)
            if newest.followers.setdefault("next", made) is made:
                return made


def _with_changes(settings: SettingsT, changes: Mapping[str, Any]) -> SettingsT:
    """Return a copy with other values. They are not checked again: whoever gave them did, and an end never raises."""
    if not changes:
        return settings
    made = object.__new__(type(settings))
    vars(made).update({**vars(settings), **changes})
    return made
