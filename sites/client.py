"""
The HTTP client of the broker: signs in with the site's key, resumes what was interrupted.

    with BrokerClient(url, study_id, identity, audience=...) as broker:
        state = broker.open_dataset(manifest)

Every problem document comes back as the LinkageError it was. After a lost connection, and while the
broker says that it is busy, requests are repeated a few times: GETs and PUTs are the same again by
themselves, POSTs by their Idempotency-Key. A token that expires meanwhile is renewed.
"""

from __future__ import annotations

import time
import uuid
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

import httpx
from joserfc import jwt
from joserfc.jwk import OKPKey
from pydantic import TypeAdapter, ValidationError

from linkage import messages
from linkage.assertions import AssertionListState
from linkage.audit_chain import HEADER, AuditHead
from linkage.errors import Unreachable
from linkage.governance import (
    Confirmation,
    Confirmations,
    DestructionCertificate,
    OptOutState,
    Withdrawal,
)
from linkage.messages import (
    Approval,
    DatasetState,
    Inbox,
    JobState,
    Manifest,
    Message,
    QuestionRequest,
    QuestionState,
    ReleaseRequest,
    SealedItem,
    StudyState,
    Token,
)
from linkage.offered import ConceptsFound, OfferedHead, OfferTaken, OfferWithdrawal
from linkage.proposal_messages import ProposalSaid, ProposalState
from linkage.question_messages import Remark, RemarkState
from linkage.release_messages import ReleaseConsent, ReleasePin, ReleaseState
from linkage.run_messages import LookState, RunRequest, RunState
from linkage.sealing import Identity
from linkage.signed_study import SignedStudy
from sites.audit_heads import KeptHeads
from sites.broker_answers import asked_to_wait, at_most, client_of, raise_for
from sites.downloads import fetched

T = TypeVar("T", bound=Message)
R = TypeVar("R")
_TRIES = 6
_FIRST_WAIT_S = 0.25
_BUSY = {httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS}
_ASSERTION_LIFE_S = 120
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class BrokerClient:
    """
    One caller at one broker: a party or contributor of a study, or an admin.

    subject: "<study>/<party or contributor>" or "admin/<name>", as the token request names it.
    heads: where the heads of the broker's audit log are kept that come with its answers.
    Raises Unreachable when the broker does not answer after several tries.
    """

    def __init__(
        self,
        url: str,
        subject: str,
        identity: Identity,
        *,
        audience: str,
        timeout_s: float = 60,
        heads: KeptHeads | None = None,
    ) -> None:
        self.url, self.subject, self.audience = url.rstrip("/"), subject, audience
        self._identity, self._heads = identity, heads
        self._http = client_of(self.url, timeout_s)
        self._token: str | None = None

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a BrokerClient refuses pickling: it holds a token and private keys")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._http.close()

    # What an admin does

    def register_study(self, signed: SignedStudy, custodian_fingerprint: str) -> StudyState:
        """Register a signed study; the same again has no further effect."""
        return self._ask(
            StudyState,
            "POST",
            "/v1/studies",
            body=signed,
            params={"custodian_fingerprint": custodian_fingerprint},
        )

    def start_run(self, study: str, request: RunRequest) -> RunState:
        return self._ask(RunState, "POST", f"/v1/studies/{study}/runs", body=request)

    def run(self, study: str, run_id: str) -> RunState:
        return self._ask(RunState, "GET", f"/v1/studies/{study}/runs/{run_id}")

    def start_release(self, study: str, request: ReleaseRequest) -> JobState:
        return self._ask(JobState, "POST", f"/v1/studies/{study}/releases", body=request)

    def job(self, study: str, job_id: str) -> JobState:
        return self._ask(JobState, "GET", f"/v1/studies/{study}/jobs/{job_id}")

    # What a party does

    def study(self, study: str) -> StudyState:
        return self._ask(StudyState, "GET", f"/v1/studies/{study}")

    def open_dataset(self, manifest: Manifest) -> DatasetState:
        """Announce a dataset version; answers which parts the broker still misses."""
        return self._ask(
            DatasetState, "POST", f"/v1/studies/{manifest.study_id}/datasets", body=manifest
        )

    def put_part(self, manifest: Manifest, number: int, sealed: bytes) -> None:
        self._send("PUT", f"{_dataset(manifest)}/parts/{number}", content=sealed)

    def complete_dataset(self, manifest: Manifest) -> DatasetState:
        return self._ask(DatasetState, "POST", f"{_dataset(manifest)}/complete")

    def withdraw_datasets(self, said: Withdrawal) -> list[DatasetState]:
        """Take back dataset versions; returns those that were not withdrawn before."""
        path = f"/v1/studies/{said.study_id}/datasets/{said.uploader}/withdraw"
        content = said.to_json()
        return self._read(list[DatasetState], self._send("POST", path, content=content, json=True))

    def assertion_lists(self, study: str) -> list[AssertionListState]:
        """Return the assertion lists that the caller sent, newest first."""
        path = f"/v1/studies/{study}/assertions"
        return self._read(list[AssertionListState], self._send("GET", path))

    def put_assertions(self, study: str, number: int, sealed: bytes) -> AssertionListState:
        """Send the caller's next assertion list; it replaces those before."""
        response = self._send("PUT", f"/v1/studies/{study}/assertions/{number}", content=sealed)
        return AssertionListState.model_validate_json(response.content)

    def ask_question(self, study: str, request: QuestionRequest, *, once: str = "") -> JobState:
        """Ask a question; once: an idempotency key, under which it is asked a single time."""
        path, content = f"/v1/studies/{study}/questions", request.to_json()
        return self._read(JobState, self._send("POST", path, content=content, json=True, once=once))

    def question(self, study: str, question_id: str) -> QuestionState:
        return self._ask(QuestionState, "GET", f"/v1/studies/{study}/questions/{question_id}")

    def questions(self, study: str, *, reports: bool = False) -> list[QuestionState]:
        """Return the study's questions, newest first; reports: with whose report was shared."""
        params = {"reports": "true"} if reports else None
        response = self._send("GET", f"/v1/studies/{study}/questions", params=params)
        return self._read(list[QuestionState], response)

    def approve(self, approval: Approval) -> QuestionState:
        path = f"/v1/studies/{approval.study_id}/questions/{approval.question_id}/approvals"
        return self._ask(QuestionState, "POST", path, body=approval)

    def remarks(self, study: str, question_id: str) -> list[RemarkState]:
        path = f"/v1/studies/{study}/questions/{question_id}/remarks"
        return self._read(list[RemarkState], self._send("GET", path))

    def say(self, remark: Remark) -> list[RemarkState]:
        path = f"/v1/studies/{remark.study_id}/questions/{remark.question_id}/remarks"
        content = remark.to_json()
        return self._read(list[RemarkState], self._send("POST", path, content=content, json=True))

    def sealed_counts(self, study: str, question_id: str) -> bytes:
        return self._send("GET", f"/v1/studies/{study}/questions/{question_id}/counts").content

    def sealed_report(self, study: str, question_id: str) -> bytes:
        return self._send("GET", f"/v1/studies/{study}/questions/{question_id}/report").content

    def start_delivery(self, study: str, question_id: str) -> JobState:
        path = f"/v1/studies/{study}/questions/{question_id}/delivery"
        return self._ask(JobState, "POST", path)

    def proposals(self, study: str) -> list[ProposalState]:
        """Return what people proposed to this party and what waits, oldest first."""
        response = self._send("GET", f"{_proposals(study)}", params={"state": "waiting"})
        return self._read(list[ProposalState], response)

    def say_of_proposal(self, said: ProposalSaid) -> ProposalState:
        step = "begin" if said.state == "begun" else "settle"
        path = f"{_proposals(said.study_id)}/{said.proposal_id}/{step}"
        return self._ask(ProposalState, "POST", path, body=said)

    def releases(self, study: str) -> list[ReleaseState]:
        """Return the releases that give the caller IDs or need its consent, newest first."""
        return self._read(list[ReleaseState], self._send("GET", f"/v1/studies/{study}/releases"))

    def release(self, study: str, release_id: str) -> ReleaseState:
        return self._ask(ReleaseState, "GET", f"/v1/studies/{study}/releases/{release_id}")

    def consent(self, consent: ReleaseConsent) -> ReleaseState:
        path = f"/v1/studies/{consent.study_id}/releases/{consent.release_id}/consents"
        return self._ask(ReleaseState, "POST", path, body=consent)

    def pin(self, study: str, release_id: str, pin: ReleasePin) -> ReleaseState:
        path = f"/v1/studies/{study}/releases/{release_id}/pins"
        return self._ask(ReleaseState, "POST", path, body=pin)

    def inbox(self, study: str, *, purpose: str = "", subject: str = "") -> tuple[SealedItem, ...]:
        asked = {"purpose": purpose, "subject": subject}
        params = {name: value for name, value in asked.items() if value}
        return self._ask(Inbox, "GET", f"/v1/studies/{study}/inbox", params=params).items

    def fetch(self, study: str, item: SealedItem) -> bytes:
        """Return a sealed object addressed to the caller, still sealed; a cut costs a part."""
        path = f"/v1/studies/{study}/inbox/{item.item_id}"
        long = at_most(item.size)
        return fetched(item, lambda more: self._send("GET", path, more=more, extensions=long))

    def relay(self, study: str, recipient: str, purpose: str, subject: str, sealed: bytes) -> None:
        """Hand a sealed object to the broker for another party."""
        params = {"recipient": recipient, "purpose": purpose, "subject": subject}
        self._send("PUT", f"/v1/studies/{study}/outbox", params=params, content=sealed)

    def second_looks(self, study: str) -> list[LookState]:
        """Return what the study's runs ask about single pairs, newest first."""
        return self._read(list[LookState], self._send("GET", f"/v1/studies/{study}/second-looks"))

    def look_questions(self, study: str, run_id: str) -> bytes:
        """Return a run's questions to the caller; still sealed."""
        return self._send("GET", f"/v1/studies/{study}/second-looks/{run_id}").content

    def answer_look(self, study: str, run_id: str, sealed: bytes) -> LookState:
        """Send the answer to a run's questions; the same again has no further effect."""
        path = f"/v1/studies/{study}/second-looks/{run_id}/answer"
        return self._read(LookState, self._send("PUT", path, content=sealed))

    def signed_study(self, study: str) -> SignedStudy:
        """Return the signed study that the broker holds; whoever gets it checks it."""
        return self._ask(SignedStudy, "GET", f"/v1/studies/{study}/signed")

    def confirm(self, said: Confirmation) -> Confirmations:
        """Send this party's signed confirmation; the same again has no further effect."""
        path = f"/v1/studies/{said.study_id}/confirmations"
        return self._ask(Confirmations, "POST", path, body=said)

    def opt_outs(self, study: str) -> list[OptOutState]:
        """Return the opt-out lists that the caller sent, newest first."""
        return self._read(list[OptOutState], self._send("GET", f"/v1/studies/{study}/opt-outs"))

    def put_opt_outs(self, study: str, number: int, sealed: bytes) -> OptOutState:
        """Send the caller's next opt-out list; it replaces those before."""
        path = f"/v1/studies/{study}/opt-outs/{number}"
        return self._read(OptOutState, self._send("PUT", path, content=sealed))

    def offers(self, study: str) -> list[OfferedHead]:
        """Return the heads of the lists of what questions may name, by party."""
        return self._read(list[OfferedHead], self._send("GET", f"/v1/studies/{study}/offered"))

    def offer(self, study: str, body: bytes) -> OfferTaken:
        """Send the party's list of what questions may name; it replaces the one before."""
        response = self._send("PUT", f"/v1/studies/{study}/offered", content=body)
        return self._read(OfferTaken, response)

    def withdraw_offer(self, said: OfferWithdrawal) -> OfferTaken:
        path = f"/v1/studies/{said.study_id}/offered/withdraw"
        return self._ask(OfferTaken, "POST", path, body=said)

    def concepts(self, study: str, asked: dict[str, str]) -> ConceptsFound:
        """Search what the parties offer. asked: words, and where given domain, party, page."""
        return self._ask(ConceptsFound, "GET", f"/v1/studies/{study}/concepts", params=asked)

    def destruction(self, study: str) -> DestructionCertificate:
        """Return the broker's certificate that it has destroyed the study."""
        return self._ask(DestructionCertificate, "GET", f"/v1/studies/{study}/destruction")

    def wish_head(self, study: str) -> None:
        """Have a head of the audit log signed; an answer about a second later carries it."""
        self._send("POST", f"/v1/studies/{study}/heads")

    # How

    def _missing_heads(self, after: int) -> list[AuditHead]:
        study = self.subject.partition("/")[0]
        path, params = f"/v1/studies/{study}/heads", {"after": str(after)}
        response = self._send("GET", path, params=params, keep_head=False)
        try:
            return TypeAdapter(list[AuditHead]).validate_json(response.content)
        except ValidationError:
            raise Unreachable(
                f"{self.url} answered something that is no list of audit heads",
                hint="check [broker] url; both sides need the same software version",
            ) from None

    def _ask(
        self,
        answer: type[T],
        method: str,
        path: str,
        *,
        body: Message | None = None,
        params: dict[str, str] | None = None,
    ) -> T:
        content = body.to_json() if body is not None else None
        response = self._send(method, path, params=params, content=content, json=True)
        return self._read(answer, response)

    def _read(self, kind: type[R], response: httpx.Response) -> R:
        try:
            return TypeAdapter(kind).validate_json(response.content)
        except ValidationError:
            raise Unreachable(
                f"{self.url} answered something that is not a {kind.__name__}",
                hint="check [broker] url; both sides need the same software version",
            ) from None

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        content: bytes | None = None,
        json: bool = False,
        keep_head: bool = True,
        once: str = "",
        more: dict[str, str] | None = None,
        extensions: dict[str, int] | None = None,
    ) -> httpx.Response:
        kind = "application/json" if json else "application/octet-stream"
        key = once or uuid.uuid4().hex
        for fresh in (False, True):
            if self._token is None or fresh:
                self._token = self._sign_in()
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind}
            headers |= more or {}
            if method == "POST":
                headers["Idempotency-Key"] = key
            request = self._http.build_request(
                method, path, params=params, content=content, headers=headers, extensions=extensions
            )
            response = self._repeat(request)
            if response.status_code != httpx.codes.UNAUTHORIZED:
                break
        if keep_head and self._heads is not None and (head := response.headers.get(HEADER)):
            self._heads.see(head, self._missing_heads)
        raise_for(response)
        return response

    def _sign_in(self) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.subject,
            "sub": self.subject,
            "aud": self.audience,
            "iat": now,
            "exp": now + _ASSERTION_LIFE_S,
            "jti": str(uuid.uuid4()),
        }
        key = OKPKey.import_key(self._identity.signing_pem())
        assertion = jwt.encode({"alg": "Ed25519"}, claims, key, algorithms=["Ed25519"])
        request = messages.TokenRequest(grant_type=_GRANT, assertion=assertion)
        kind, content = {"Content-Type": "application/json"}, request.to_json()
        asked = self._http.build_request("POST", "/v1/token", content=content, headers=kind)
        response = self._repeat(asked)
        raise_for(response)
        return Token.model_validate_json(response.content).access_token

    def _repeat(self, request: httpx.Request) -> httpx.Response:
        once = request.method != "POST" or "Idempotency-Key" in request.headers
        again = httpx.TransportError if once else httpx.ConnectError
        wait = _FIRST_WAIT_S
        for _ in range(_TRIES - 1):
            try:
                response = self._http.send(request)
            except again:
                time.sleep(wait)
            except httpx.TransportError as fault:
                raise self._unreachable(fault) from None
            else:
                if response.status_code not in _BUSY or not once:
                    return response
                time.sleep(max(wait, asked_to_wait(response)))
            wait *= 2
        try:
            return self._http.send(request)
        except httpx.TransportError as fault:
            raise self._unreachable(fault) from None

    def _unreachable(self, fault: httpx.TransportError) -> Unreachable:
        return Unreachable(
            f"{self.url} does not answer ({type(fault).__name__})",
            hint="check [broker] url (https:// or http://, host, port) and the network; what was"
            " sent before is kept",
        )


def _proposals(study: str) -> str:
    return f"/v1/studies/{study}/proposals"


def _dataset(manifest: Manifest) -> str:
    return f"/v1/studies/{manifest.study_id}/datasets/{manifest.uploader}/{manifest.dataset}"
