"""A mail server that wants a login gets it encrypted, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from listeners import CERTIFICATE, Serve, login_server

from cvdm_core.config import MessageSettings
from cvdm_core.nights import messages
from cvdm_core.nights.messages import tell

USER, PASSWORD = "night@x.org", "pass word"


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))


@pytest.fixture
def login(tmp_path: Path) -> Path:
    file = tmp_path / "login"
    file.write_text(f"{USER}\n{PASSWORD}\n")
    return file


def sent(smtp: str, login: Path) -> list[str]:
    settings = MessageSettings(mail_to=("anna@x.org",), mail_from="night@x.org", smtp=smtp, smtp_login_file=str(login))
    return tell(settings, "2 failed", "text", act=True)


def test_the_password_goes_only_over_an_encrypted_connection(serve: Serve, login: Path) -> None:
    heard: list[str] = []
    assert sent(serve(login_server(heard, USER, PASSWORD)), login) == []
    assert [line.split()[0] for line in heard] == ["ehlo", "STARTTLS", "mail:"]
    assert "Subject: 2 failed" in heard[-1]


def test_a_port_that_is_encrypted_from_the_start(serve: Serve, login: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    smtp = serve(login_server(heard, USER, PASSWORD, encrypted=True))
    monkeypatch.setattr(messages, "TLS_PORT", int(smtp.rpartition(":")[2]))
    assert sent(smtp, login) == []
    assert [line.split()[0] for line in heard] == ["mail:"]


def test_without_encryption_or_trust_nothing_secret_is_sent(serve: Serve, login: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    (problem,) = sent(serve(login_server(heard, USER, PASSWORD, starttls=False)), login)
    assert "does not encrypt" in problem and not [line for line in heard if line.startswith(("AUTH", "mail:"))]
    heard.clear()
    monkeypatch.delenv("SSL_CERT_FILE")
    (problem,) = sent(serve(login_server(heard, USER, PASSWORD)), login)
    assert "certificate" in problem and not [line for line in heard if line.startswith(("AUTH", "mail:"))]


def test_a_wrong_login_is_named_and_not_repeated(serve: Serve, login: Path) -> None:
    smtp = serve(login_server([], USER, "another"))
    (problem,) = sent(smtp, login)
    assert "status 535 (SMTPAuthenticationError)" in problem and PASSWORD not in problem
    for content in ("", "one line", "a\nb\nc", "\npassword", "user\nvögel"):
        login.write_text(content)
        (problem,) = sent(smtp, login)
        assert "must hold two lines, the user's name and the password" in problem and "password\n" not in problem
    login.unlink()
    assert "cannot be read (FileNotFoundError)" in sent(smtp, login)[0]
