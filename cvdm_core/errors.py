"""The exceptions that a person is meant to read."""

import os
import shlex

COPY_AGAIN = "copy it again from the microscope"
"""What to do about a file that is damaged or cut off."""


class UserError(Exception):
    """A problem that the person at the keyboard can mend.

    The message is one sentence or two that name the file or key, what is wrong with it, and what to do. The command line prints the
    message without a traceback and ends with exit status 2; anything else that is raised is a bug and keeps its traceback.
    """


class DamagedInputError(UserError):
    """A raw file is cut off, damaged, incomplete or gone: trying again helps only after it was copied again. The message names it."""


class DeviceError(UserError):
    """The machine does not have what the job was given: another node may. The message names it."""


class TimeUpError(UserError):
    """The job's time limit is near, and what was reached is saved: the message says how far it came."""


class DiskError(UserError):
    """There was no space, no quota, or no permission for a file: the message names it."""


def shell_word(text: str) -> str:
    """Return a name as one word of a command that can be pasted into bash, on one line and printable whatever it holds."""
    if text.isprintable():
        return shlex.quote(text)
    letters = (f"\\x{byte:02x}" if not 0x20 <= byte <= 0x7E or byte in b"'\\" else chr(byte) for byte in os.fsencode(text))
    return f"$'{''.join(letters)}'"
