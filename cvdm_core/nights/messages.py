"""Telling people about a night by mail or webhook, in a way that can neither fail nor hang the run."""

from __future__ import annotations

import getpass
import json
import os
import platform
import smtplib
import ssl
import urllib.request
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from threading import Thread
from urllib.error import URLError
from urllib.parse import urlsplit

from cvdm_core.config import MessageSettings
from cvdm_core.errors import UserError

ANSWER_S = 20.0
"""How long a server may take for one answer."""
ALL_S = 60.0
"""How long sending may take in all; whoever looks up names or lets its answer drip is not waited for any longer."""
TLS_PORT = 465
"""Where a mail server speaks TLS from the first byte (RFC 8314); on all others it begins with STARTTLS."""
LONGEST = 4000
"""Characters of a message; services that take webhooks cut off or refuse longer ones."""


def tell(settings: MessageSettings, subject: str, text: str, act: bool) -> list[str]:
    """Send a message by every way that is configured, if it is wanted; return a sentence for each way that failed.

    `act` says that a person must do something. Never raises, and returns within `ALL_S`; no sentence holds a secret.
    """
    if settings.when == "never" or (settings.when == "act" and not act):
        return []
    ways: list[tuple[str, Callable[[], None]]] = []
    if settings.mail_to:
        ways.append((f"the mail to {', '.join(settings.mail_to)} by {settings.smtp}", lambda: _mail(settings, subject, text)))
    if settings.webhook_file or settings.webhook_variable:
        named = settings.webhook_file or f"${settings.webhook_variable}"
        ways.append((f"the message to the webhook of {named}", lambda: _post(_address(settings), subject, text)))
    problems: dict[str, str] = {}
    threads = [(what, Thread(target=_guarded, args=(problems, what, send), daemon=True)) for what, send in ways]
    for _, thread in threads:
        thread.start()
    for what, thread in threads:
        thread.join(ALL_S / len(threads))
        if thread.is_alive():
            problems[what] = f"{what} was not sent: no answer within {ALL_S / len(threads):.0f} s."
    return list(problems.values())


def _guarded(problems: dict[str, str], what: str, send: Callable[[], None]) -> None:
    try:
        send()
    except UserError as error:
        problems[what] = f"{what} was not sent: {error}"
    except Exception as error:  # whatever a server or a name service does, the night is not lost over it
        problems[what] = f"{what} was not sent: {_reason(error)}; is `messages` of the configuration right, and does this machine reach it?"


def _reason(error: Exception) -> str:
    """Say what went wrong in the system's words or the server's number; other text of an error may hold the webhook's address."""
    if isinstance(error, urllib.request.HTTPError):
        return f"status {error.code}"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "the server does not encrypt, or takes no login"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"status {error.smtp_code} ({type(error).__name__})"
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {ANSWER_S:.0f} s"
    said = cause.strerror if isinstance(cause, OSError) else None
    return f"{said} ({type(cause).__name__})" if said else type(error).__name__


def _mail(settings: MessageSettings, subject: str, text: str) -> None:
    host, _, port = settings.smtp.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"messages.smtp is {settings.smtp!r}; write host:port, for example mail.institute.org:25.")
    mail = EmailMessage()
    mail["Subject"] = _line(subject)
    mail["From"] = settings.mail_from or f"{getpass.getuser()}@{platform.node()}"
    mail["To"] = ", ".join(settings.mail_to)
    mail.set_content(text)
    login = _login(settings.smtp_login_file) if settings.smtp_login_file else None
    with _connected(host, int(port)) as server:
        if login and int(port) != TLS_PORT:
            server.starttls(context=ssl.create_default_context())
        if login:
            server.login(*login)
        server.send_message(mail)


def _connected(host: str, port: int) -> smtplib.SMTP:
    if port == TLS_PORT:
        return smtplib.SMTP_SSL(host, port, timeout=ANSWER_S, context=ssl.create_default_context())
    return smtplib.SMTP(host, port, timeout=ANSWER_S)


def _login(file: str) -> tuple[str, str]:
    """Return user and password from a file.

    Raises
    ------
    UserError
        If it does not hold both; the sentence does not repeat what it holds.
    """
    lines = _secret(file).splitlines()
    if len(lines) != 2 or not all(lines) or not "".join(lines).isascii():
        raise UserError(f"{file} must hold two lines, the user's name and the password, in letters of ASCII.")
    return lines[0], lines[1]


def _post(address: str, subject: str, text: str) -> None:
    body = f"{_line(subject)}\n{text}"
    body = body if len(body) <= LONGEST else body[: LONGEST - 1] + "…"
    request = urllib.request.Request(
        address, json.dumps({"text": body}).encode("utf-8"), {"Content-Type": "application/json", "User-Agent": "cvdm"}
    )
    with urllib.request.build_opener(_StayHere).open(request, timeout=ANSWER_S) as answer:
        answer.read(1000)


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Takes a redirection for a failure: urllib would ask the new place without the message, and be content with its answer."""

    def redirect_request(self, *_: object) -> None:
        """Go nowhere."""


def _address(settings: MessageSettings) -> str:
    """Return the webhook's address from its file or variable.

    Raises
    ------
    UserError
        If there is none, or it is no web address; the sentence does not repeat it.
    """
    address = (_secret(settings.webhook_file) if settings.webhook_file else os.environ.get(settings.webhook_variable, "")).strip()
    # urllib would also open files.
    if urlsplit(address).scheme not in ("http", "https"):
        raise UserError("what stands there is no address that begins with https:// or http://.")
    return address


def _secret(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({type(error).__name__}).") from None


def _line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
