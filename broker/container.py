"""Everything a broker process needs, built once: `Broker.at(home)`."""

from __future__ import annotations

from dataclasses import dataclass

from broker.account_key import AccountKey
from broker.audit_check import Check
from broker.audit_heads import Heads
from broker.auth import SignIn
from broker.blobs import Blobs
from broker.browsers import Browsers
from broker.config import Home
from broker.front_door import FrontDoor
from broker.oidc import Provider
from broker.passwords import Hashes
from broker.rate import Attempts
from broker.services import once
from broker.services.access import Access
from broker.services.accounts import Accounts
from broker.services.admins import Admins
from broker.services.assertions import Assertions
from broker.services.audit_log import AuditLog
from broker.services.comparisons import Comparisons
from broker.services.consents import Consents
from broker.services.forecasts import Forecasts
from broker.services.lifecycle import Lifecycle
from broker.services.offered import OfferedLists
from broker.services.opt_outs import OptOuts
from broker.services.oversight import Oversight
from broker.services.overviews import Overviews
from broker.services.proposals import Proposals
from broker.services.question_lines import QuestionLines
from broker.services.questions import Questions
from broker.services.quotas import Quotas
from broker.services.relay import Relay
from broker.services.releases import Releases
from broker.services.remarks import Remarks
from broker.services.retention import Retention
from broker.services.reviews import Reviews
from broker.services.runs import Runs
from broker.services.second_looks import SecondLooks
from broker.services.storage import Storage
from broker.services.studies import Studies
from broker.services.system import System
from broker.services.uploads import Uploads
from broker.sessions import Sessions
from broker.store import blobs as blob_rows
from broker.store.engine import Database


@dataclass(frozen=True, slots=True)
class Broker:
    """The services over one database and one blob folder."""

    home: Home
    database: Database
    blobs: Blobs
    sign_in: SignIn
    access: Access
    accounts: Accounts
    sessions: Sessions
    provider: Provider
    door: FrontDoor
    admins: Admins
    studies: Studies
    uploads: Uploads
    quotas: Quotas
    storage: Storage
    assertions: Assertions
    runs: Runs
    comparisons: Comparisons
    forecasts: Forecasts
    reviews: Reviews
    releases: Releases
    consents: Consents
    questions: Questions
    question_lines: QuestionLines
    remarks: Remarks
    proposals: Proposals
    offered: OfferedLists
    relay: Relay
    second_looks: SecondLooks
    oversight: Oversight
    overviews: Overviews
    heads: Heads
    audit_log: AuditLog
    lifecycle: Lifecycle
    opt_outs: OptOuts
    retention: Retention
    system: System

    @classmethod
    def at(cls, home: Home) -> Broker:
        """Build the services. Raises BrokerRefused if the database is not migrated."""
        database = Database(home.database_url())
        database.require_migrated()
        blobs = Blobs.at(home)
        config = home.config
        sign_in = SignIn(database, config.server, config.tokens)
        key, hashes = AccountKey(home.accounts_key_file), Hashes()
        attempts = Attempts(config.accounts.failed_per_minute)
        accounts = Accounts(database, key, config.accounts, hashes)
        sessions = Sessions(database, key, config.accounts, hashes, attempts)
        runs, quotas = Runs(database, blobs), Quotas(database, config.limits)
        return cls(
            home=home,
            database=database,
            blobs=blobs,
            sign_in=sign_in,
            access=Access(database),
            accounts=accounts,
            sessions=sessions,
            provider=Provider.of(home, database, key, sessions),
            door=FrontDoor(sign_in, sessions, accounts, attempts, Browsers.of(home)),
            admins=Admins(database),
            studies=Studies(database, home),
            uploads=Uploads(database, blobs, config.limits),
            quotas=quotas,
            storage=Storage(database, quotas),
            assertions=Assertions(database, blobs, config.limits),
            runs=runs,
            comparisons=Comparisons(database, runs),
            forecasts=Forecasts(database, config.worker),
            reviews=Reviews(database),
            releases=Releases(database),
            consents=Consents(database),
            questions=Questions(database),
            question_lines=QuestionLines(database),
            remarks=Remarks(database),
            proposals=Proposals(database),
            offered=OfferedLists(database),
            relay=Relay(database, blobs, config.limits),
            second_looks=SecondLooks(database, blobs),
            oversight=Oversight(database),
            overviews=Overviews(database),
            heads=Heads(database),
            audit_log=AuditLog(database, Check(database, home.public)),
            lifecycle=Lifecycle(database),
            opt_outs=OptOuts(database, blobs),
            retention=Retention(database, blobs, home),
            system=System(database, home, blobs, Oversight(database)),
        )

    def sweep(self, *, older_than: float) -> None:
        """
        Delete what killed processes left: half-written bodies, and blobs that no row names. Forget
        idempotency keys that are old.

        older_than: seconds; a blob gets its row moments after it is in place.
        """
        once.forget_old(self.database)
        self.blobs.sweep_incoming(older_than)
        # Blobs first: one that is placed meanwhile is then no candidate.
        found = list(self.blobs.all_older_than(older_than))
        with self.database.read() as connection:
            named = blob_rows.named(connection)
        for blob_id in found:
            if blob_id not in named:
                self.blobs.delete(blob_id)
