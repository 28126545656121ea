"""Calls to the services by HTTP, with errors translated into words for the person who typed the command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from affiant.cli import home as homes, record
from affiant.cli.home import Home
from affiant.common.errors import NotFound, Problem, Unavailable

LOOK = "look: affiant doctor; "
NOT_RUNNING = f"is it running? {LOOK}start it: affiant up"


@dataclass(frozen=True)
class Services:
    """The services of one installation, called in the name of one person."""

    home: Home
    person: str

    def url(self, service: str) -> str:
        """Where `service` answers."""
        services = record.read(self.home).services
        if service not in services:
            raise NotFound(f"{self.home.record_file} names no {service}")
        return services[service].url

    def get(self, service: str, path: str, **parameters: Any) -> Any:
        """The JSON at `path`; parameters that are `None` are left out. Raises `Problem`."""
        given = {key: value for key, value in parameters.items() if value is not None}
        return self.ask(service, "GET", path, params=given).json()

    def post(self, service: str, path: str, body: Any = None) -> Any:
        """The JSON answer to `body`. Raises `Problem`."""
        return self.ask(service, "POST", path, json={} if body is None else body).json()

    def ask(self, service: str, method: str, path: str, *, timeout: float = 30.0, **request: Any) -> httpx.Response:
        """A successful answer. Raises `Problem` in the service's own words, with what to do next."""
        address = self.url(service)
        headers = {"Authorization": f"Bearer {self.home.token(self.person)}"}
        try:
            answer = httpx.request(method, f"{address}{path}", headers=headers, timeout=timeout, **request)
        except httpx.ConnectError as error:
            raise Unavailable(f"the {service} does not answer at {address}", hint=NOT_RUNNING) from error
        except httpx.TimeoutException as error:
            raise Unavailable(f"the {service} gave no answer within {timeout:.0f} s", hint="affiant doctor") from error
        except httpx.HTTPError as error:
            raise Unavailable(f"the {service} broke off: {error}", hint="affiant doctor") from error
        if answer.is_success:
            return answer
        raise self._problem(service, answer)

    @contextmanager
    def stream(self, service: str, path: str, parameters: dict[str, Any], silence: float) -> Iterator[httpx.Response]:
        """A successful answer whose bytes are still coming, never more than `silence` seconds apart. Raises `Problem`
        where it does not begin, `httpx.HTTPError` where it breaks off."""
        address = self.url(service)
        headers = {"Authorization": f"Bearer {self.home.token(self.person)}"}
        try:
            with httpx.stream("GET", f"{address}{path}", params=parameters, headers=headers, timeout=silence) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._problem(service, answer)
                yield answer
        except httpx.ConnectError as error:
            raise Unavailable(f"the {service} does not answer at {address}", hint=NOT_RUNNING) from error

    def _problem(self, service: str, answer: httpx.Response) -> Problem:
        body = _body(answer)
        message = str(body.pop("error", "") or f"the {service} answered with status {answer.status_code}")
        hint = str(body.pop("hint", "") or "")
        hint = _ROUTE.sub(_as_command, hint)
        if answer.status_code == 413 and not hint:
            hint = "what was sent is larger than it takes"
        if answer.status_code == 401:
            hint = f"the token of {self.person} is not known to the {service}: does it belong to this installation?"
        if answer.status_code == 403:
            hint = another_person(self.home, self.person, f"{message} {hint}") or hint
        return Problem(message, status=answer.status_code, hint=hint, details=body)


def another_person(home: Home, person: str, refusal: str) -> str:
    """What to add to the command where `person` may not do it: somebody here who may. Empty where nobody is known.

    A refusal for a missing role ends in "needs the role <role> or <role>"; any other 403 is the rule that an
    author may not approve.
    """
    found = re.search(r"needs the role ([a-z]+(?: or [a-z]+)*)", refusal)
    roles = found[1].split(" or ") if found else ["approver"]
    others = [name for name in homes.people_with_role(home, *roles) if name != person]
    if not others:
        return ""
    who = f"{others[0]} is {_an(roles[0])}" if found else "another person must"
    return f"{who}: add --as {others[0]}"


_ROUTE = re.compile(r"GET /v1/models(?:/([a-z0-9-]+))?")


def _as_command(route: re.Match[str]) -> str:
    """A service's hint names a route of its API; a person at a terminal has a command for it."""
    return f"affiant models {route[1]}" if route[1] else "affiant models"


def _an(role: str) -> str:
    return f"an {role}" if role[0] in "aeiou" else f"a {role}"


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
