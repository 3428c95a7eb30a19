"""The exceptions that a person is meant to read."""

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


class DiskFullError(UserError):
    """There was no space, or no quota, for a file: the message names it."""
