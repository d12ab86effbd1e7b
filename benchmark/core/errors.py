"""The errors of flexbench. The command line prints a FlexbenchError as one line and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FlexbenchError(Exception):
    """An error that the user can mend: a bad value, a missing file, no permission.

    The message is one line that names the bad value, the valid ones and the next command.
    """


class Interrupted(BaseException):
    """The user asked a run to stop. Like KeyboardInterrupt it is not an Exception, so no handler swallows it."""


class DivergedError(Exception):
    """A loss, a parameter or a buffer is not finite.

    Attributes:
        phase: name of the phase of training.
        step: 0-based number of the step in the phase.
        loss: name of the loss, of the optimizer or of the buffer.
    """

    def __init__(self, phase: str, step: int, loss: str, what: str = "loss"):
        super().__init__(f"{what} '{loss}' is not finite at step {step} of phase '{phase}'")
        self.phase, self.step, self.loss = phase, step, loss


def unknown(kind: str, value: str, valid: Iterable[str], hint: str = "") -> FlexbenchError:
    """Return an error for a name that is not in `valid`, with a suggestion; `hint` is the next command to type."""
    value, valid = str(value), sorted(valid)
    near = difflib.get_close_matches(value, valid, n=1)
    guess = f" Did you mean '{near[0]}'?" if near else ""
    return FlexbenchError(f"unknown {kind} '{value}'.{guess} Valid: {', '.join(valid) or '(none)'}. {hint}".rstrip())
