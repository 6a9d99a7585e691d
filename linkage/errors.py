"""
Every error that a user of this project can meet, as one tree.

    LinkageError
    ├── ConfigRefused          a TOML file breaks a rule: file, line, key, remedy
    │   ├── StudyRefused       the study file
    │   ├── SiteRefused        a site file
    │   ├── CohortRefused      a cohort specification
    │   └── BrokerRefused      a broker's configuration or home folder
    ├── SchemaRefused          a linkage schema (clkhash v3) is malformed or weak
    ├── SourceRefused          an input file cannot be read as its site file says
    │   └── RowRejected        one row breaks a rule: row, field, rule
    ├── KeyRefused             a key is missing, weak, unreadable or the wrong one
    ├── PackageRefused         something sealed or signed is altered, foreign or misdirected
    │   ├── TooLarge           a body passes its byte cap
    │   └── HistoryAltered     an audit log was altered, or a broker shows two of them
    ├── EncodingRefused        encoded records have the wrong shape, length or type
    ├── DeliveryFaulty         a joined cohort fails its own check: table, rule
    ├── MatchingFailed         a run cannot give an honest answer
    │   └── TooManyCandidates  the candidate cap was reached
    ├── CallerRefused          who calls may not, or is not known
    │   ├── NotAuthenticated
    │   └── NotAllowed
    ├── NotFound               no such study, dataset version, run, release, question
    ├── Conflict               what is asked contradicts what is already there
    │   ├── RequestReused      an idempotency key came again with another request
    │   └── AlreadySent        this party sent something else for the same subject before
    ├── TooManyRequests        a caller has to wait: seconds
    ├── TooSlow                a body does not come
    └── Unreachable            the broker does not answer

Every error says the fault, then the remedy (`hint`). None ever holds a value from a
record, a key, or a local record id: an error text reaches logs and tickets.
"""

from __future__ import annotations

from typing import Any, ClassVar


class LinkageError(Exception):
    """
    Base of all errors above. `code` is a stable slug, `hint` the remedy in one sentence.

    The broker maps `code` to a problem document (RFC 9457), the client maps it back.
    """

    code: ClassVar[str] = "linkage-error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message}. Hint: {hint}" if hint else message)

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process hands its refusal to its parent, whatever arguments its kind takes.
        return _again, (type(self), str(self), dict(self.__dict__))


def _again(kind: type[LinkageError], text: str, attributes: dict[str, Any]) -> LinkageError:
    made = kind.__new__(kind, text)
    made.args = (text,)
    made.__dict__.update(attributes)
    return made


class ConfigRefused(LinkageError):
    """
    A TOML file breaks a rule. `line` counts from 1; 0 means the file as a whole.

    others: what else is wrong in the same file, so that one reading mends it all.
    """

    code = "config-refused"
    others: tuple[ConfigRefused, ...] = ()

    def __init__(self, *, file: str, line: int, key: str, rule: str, hint: str = "") -> None:
        self.file, self.line, self.key, self.rule = file, line, key, rule
        place = f"{file}, line {line}" if line else file
        named = f" {key!r}:" if key else ""
        super().__init__(f"{place}:{named} {rule}", hint=hint)


class StudyRefused(ConfigRefused):
    code = "study-refused"


class SiteRefused(ConfigRefused):
    code = "site-refused"


class CohortRefused(ConfigRefused):
    code = "cohort-refused"


class BrokerRefused(ConfigRefused):
    code = "broker-refused"


class SchemaRefused(LinkageError):
    code = "schema-refused"


class SourceRefused(LinkageError):
    """An input file cannot be read as its site file says. Names file and rule, never a value."""

    code = "source-refused"

    def __init__(self, *, file: str, rule: str, hint: str = "") -> None:
        self.file, self.rule = file, rule
        super().__init__(f"{file}: {rule}", hint=hint)


class RowRejected(SourceRefused):
    """
    One record breaks a rule. Names file, row, field and rule; the header of a table is row 1,
    and a source without rows counts by another `unit` (line, patient). field: "" for the whole.
    """

    code = "row-rejected"

    def __init__(
        self, *, file: str, row: int, field: str, rule: str, hint: str = "", unit: str = "row"
    ) -> None:
        self.row, self.field = row, field
        place = f"{file}, {unit} {row}" + (f", field {field!r}" if field else "")
        super().__init__(file=place, rule=rule, hint=hint)


class KeyRefused(LinkageError):
    code = "key-refused"


class PackageRefused(LinkageError):
    code = "package-refused"


class TooLarge(PackageRefused):
    code = "too-large"


class HistoryAltered(PackageRefused):
    code = "history-altered"


class EncodingRefused(LinkageError):
    code = "encoding-refused"


class DeliveryFaulty(LinkageError):
    """A delivered folder is not what it must be. Names table, column and rule; never a value."""

    code = "delivery-faulty"

    def __init__(self, *, table: str, rule: str) -> None:
        self.table, self.rule = table, rule
        super().__init__(f"{table}: {rule}", hint="do not use the delivery; have it made again")


class MatchingFailed(LinkageError):
    code = "matching-failed"


class TooManyCandidates(MatchingFailed):
    code = "too-many-candidates"


class CallerRefused(LinkageError):
    code = "caller-refused"


class NotAuthenticated(CallerRefused):
    code = "not-authenticated"


class NotAllowed(CallerRefused):
    code = "not-allowed"


class NotFound(LinkageError):
    code = "not-found"


class Conflict(LinkageError):
    code = "conflict"


class RequestReused(Conflict):
    code = "request-reused"


class AlreadySent(Conflict):
    code = "already-sent"


class TooManyRequests(LinkageError):
    """A caller has to wait. retry_after: seconds."""

    code = "too-many-requests"
    retry_after: int = 1

    def __init__(self, message: str, *, hint: str = "", retry_after: int = 1) -> None:
        self.retry_after = retry_after
        super().__init__(message, hint=hint)


class TooSlow(LinkageError):
    code = "too-slow"


class Unreachable(LinkageError):
    code = "unreachable"
