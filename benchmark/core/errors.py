"""Errors that a user can mend. The command line prints them as one line and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FlexbenchError(Exception):
    """A mistake of the user or of the surroundings: bad value, missing file, no permission.

    The message is one line that names the bad value, the valid ones and the next command.
    """


class Interrupted(BaseException):
    """The user asked a run to stop. Like KeyboardInterrupt it is no Exception, so that no handler takes it for one."""


class DivergedError(Exception):
    """A loss, or what its step left, is not finite. Carries the phase, the step (0-based) and the name of the loss."""

    def __init__(self, phase: str, step: int, loss: str, what: str = "loss"):
        super().__init__(f"{what} '{loss}' is not finite at step {step} of phase '{phase}'")
        self.phase, self.step, self.loss = phase, step, loss


def unknown(kind: str, value: str, valid: Iterable[str], hint: str = "") -> FlexbenchError:
    """A 'did you mean' error for a name that is not in `valid`; `hint` is the next command to type."""
    value, valid = str(value), sorted(valid)
    near = difflib.get_close_matches(value, valid, n=1)
    guess = f" Did you mean '{near[0]}'?" if near else ""
    return FlexbenchError(f"unknown {kind} '{value}'.{guess} Valid: {', '.join(valid) or '(none)'}. {hint}".rstrip())
