"""Messages: they arrive at real listeners, and no listener, however bad, fails or hangs the night."""

from __future__ import annotations

import json
import socket
import socketserver
import time
from collections.abc import Callable
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from listeners import Serve

from cvdm_core.config import MessageSettings
from cvdm_core.nights import messages
from cvdm_core.nights.messages import tell

SECRET = "T0ken-that-nobody-may-see"


def mailbox(received: list[bytes], refuse: str = "") -> Callable[[socketserver.StreamRequestHandler], None]:
    """Return a mail server in so many words of RFC 5321."""

    def handle(connection: socketserver.StreamRequestHandler) -> None:
        def say(line: str) -> None:
            connection.wfile.write(f"{line}\r\n".encode())

        say("220 test")
        for raw in connection.rfile:
            word = raw.decode().split()[0].upper()
            if refuse and word == refuse:
                say("550 no")
            elif word == "DATA":
                say("354 go on")
                received.append(b"".join(line.removeprefix(b".") for line in iter(connection.rfile.readline, b".\r\n")))
                say("250 taken")
            elif word == "QUIT":
                say("221 bye")
                return
            else:
                say("250 well")

    return handle


def webhook(received: list[bytes], status: str = "200 OK") -> Callable[[socketserver.StreamRequestHandler], None]:
    def handle(connection: socketserver.StreamRequestHandler) -> None:
        length = 0
        for raw in iter(connection.rfile.readline, b"\r\n"):
            name, _, value = raw.decode().partition(":")
            length = int(value) if name.lower() == "content-length" else length
        received.append(connection.rfile.read(length))
        connection.wfile.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".encode())

    return handle


def hangs(connection: socketserver.StreamRequestHandler) -> None:
    connection.rfile.read()


def drips(connection: socketserver.StreamRequestHandler) -> None:
    """Answer so slowly that no single read ever times out."""
    try:
        for letter in "HTTP/1.1 200 " + "x" * 10_000:
            connection.wfile.write(letter.encode())
            time.sleep(0.05)
    except OSError:
        return  # nobody listens any more


def hook(tmp_path: Path, where: str) -> MessageSettings:
    file = tmp_path / "webhook"
    file.write_text(f"http://{where}/hooks/{SECRET}\n")
    return MessageSettings(webhook_file=str(file))


def test_a_mail_arrives_with_its_words_and_nothing_of_a_name_gets_into_its_head(serve: Serve) -> None:
    received: list[bytes] = []
    settings = MessageSettings(mail_to=("anna@x.org", "ben@x.org"), mail_from="night@x.org", smtp=serve(mailbox(received)))
    assert tell(settings, "2 failed\r\nBcc: all@x.org", "cells µm: déjà vu\n.\nlast line", act=True) == []
    mail = message_from_bytes(received[0], policy=default)
    assert (mail["From"], mail["To"], mail["Bcc"]) == ("night@x.org", "anna@x.org, ben@x.org", None)
    assert mail["Subject"] == "2 failed Bcc: all@x.org"
    assert mail.get_content().split("\r\n") == ["cells µm: déjà vu", ".", "last line", ""]


def test_a_webhook_gets_the_words_as_json(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[bytes] = []
    where = serve(webhook(received))
    assert tell(hook(tmp_path, where), "subject", "text " * 2000, act=False) == []
    monkeypatch.setenv("NIGHT_HOOK", f"http://{where}/hooks/x")
    assert tell(MessageSettings(webhook_variable="NIGHT_HOOK"), "subject", "text", act=False) == []
    long, short = (json.loads(body)["text"] for body in received)
    assert (short, len(long), long[-1]) == ("subject\ntext", messages.LONGEST, "…")


def test_only_what_is_wanted_is_sent(serve: Serve, tmp_path: Path) -> None:
    received: list[bytes] = []
    settings = hook(tmp_path, serve(webhook(received)))
    for when, sent in (("never", 0), ("act", 1), ("always", 2)):
        received.clear()
        for act in (True, False):
            assert tell(settings.model_copy(update={"when": when}), "s", "t", act) == []
        assert len(received) == sent
    assert tell(MessageSettings(), "s", "t", True) == []


@pytest.mark.parametrize(
    "server",
    [hangs, drips, webhook([], "500 Internal Server Error"), lambda connection: None],
    ids=["hangs", "drips", "refuses", "hangs up"],
)
def test_a_bad_webhook_costs_a_sentence_without_its_address(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Callable[[socketserver.StreamRequestHandler], None]
) -> None:
    monkeypatch.setattr(messages, "ALL_S", 1.5)
    begin = time.monotonic()
    problems = tell(hook(tmp_path, serve(server)), "s", "t", act=True)
    assert len(problems) == 1 and "webhook was not sent: " in problems[0]
    assert SECRET not in problems[0] and "127.0.0.1" not in problems[0]
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect"])
def test_a_webhook_that_leads_elsewhere_is_no_success(serve: Serve, tmp_path: Path, status: str) -> None:
    """As a login page does, which answers 200 to whoever asks without the message."""
    asked: list[bytes] = []
    login = serve(webhook(asked))
    problems = tell(hook(tmp_path, serve(webhook([], f"{status}\r\nLocation: http://{login}/login?from={SECRET}"))), "s", "t", act=True)
    assert len(problems) == 1 and f"was not sent: status {status[:3]}" in problems[0] and SECRET not in problems[0]
    assert asked == []


def test_a_mail_server_that_hangs_costs_the_webhook_nothing(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "ALL_S", 2)
    received: list[bytes] = []
    settings = hook(tmp_path, serve(webhook(received))).model_copy(update={"mail_to": ("a@x.org",), "smtp": serve(hangs)})
    problems = tell(settings, "s", "t", act=True)
    assert len(problems) == 1 and "the mail to a@x.org" in problems[0] and "no answer within 1 s" in problems[0]
    assert len(received) == 1


def test_a_mail_that_is_refused_and_wrong_settings_are_named(serve: Serve, tmp_path: Path) -> None:
    def problem(**settings: object) -> str:
        return tell(MessageSettings.model_validate(settings), "s", "t", act=True)[0]

    assert "SMTPRecipientsRefused" in problem(mail_to=("a@x.org",), smtp=serve(mailbox([], refuse="RCPT")))
    assert "write host:port" in problem(mail_to=("a@x.org",), smtp="mail.x.org")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    assert "Connection refused (ConnectionRefusedError); is `messages`" in problem(mail_to=("a@x.org",), smtp=nobody)
    (tmp_path / "hook").write_text(f"http://{nobody}/hooks/{SECRET}")
    said = problem(webhook_file=str(tmp_path / "hook"))
    assert "Connection refused" in said and SECRET not in said and nobody not in said
    assert "cannot be read (FileNotFoundError)" in problem(webhook_file=str(tmp_path / "none"))
    assert "no address that begins with https://" in problem(webhook_variable="NOT_SET")
    (tmp_path / "local").write_text("file:///etc/passwd")
    said = problem(webhook_file=str(tmp_path / "local"))
    assert "no address" in said and "passwd" not in said
