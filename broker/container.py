"""Everything a broker process needs, built once: `Broker.at(home)`."""

from __future__ import annotations

from dataclasses import dataclass

from broker.audit_heads import Heads
from broker.auth import SignIn
from broker.blobs import Blobs
from broker.config import Home
from broker.services.admins import Admins
from broker.services.assertions import Assertions
from broker.services.oversight import Oversight
from broker.services.questions import Questions
from broker.services.relay import Relay
from broker.services.releases import Releases
from broker.services.runs import Runs
from broker.services.second_looks import SecondLooks
from broker.services.studies import Studies
from broker.services.uploads import Uploads
from broker.store import blobs as blob_rows
from broker.store.engine import Database


@dataclass(frozen=True, slots=True)
class Broker:
    """The services over one database and one blob folder."""

    home: Home
    database: Database
    blobs: Blobs
    sign_in: SignIn
    admins: Admins
    studies: Studies
    uploads: Uploads
    assertions: Assertions
    runs: Runs
    releases: Releases
    questions: Questions
    relay: Relay
    second_looks: SecondLooks
    oversight: Oversight
    heads: Heads

    @classmethod
    def at(cls, home: Home) -> Broker:
        """Build the services. Raises BrokerRefused if the database is not migrated."""
        database = Database(home.database_url())
        database.require_migrated()
        blobs = Blobs(home.blobs)
        config = home.config
        return cls(
            home=home,
            database=database,
            blobs=blobs,
            sign_in=SignIn(database, config.server, config.tokens),
            admins=Admins(database),
            studies=Studies(database, home),
            uploads=Uploads(database, blobs, config.limits),
            assertions=Assertions(database, blobs),
            runs=Runs(database),
            releases=Releases(database),
            questions=Questions(database),
            relay=Relay(database, blobs, config.limits),
            second_looks=SecondLooks(database, blobs),
            oversight=Oversight(database),
            heads=Heads(database),
        )

    def sweep(self, *, older_than: float) -> None:
        """
        Delete what killed processes left: half-written bodies, and blobs that no row names.

        older_than: seconds; a blob gets its row moments after it is in place.
        """
        self.blobs.sweep_incoming(older_than)
        # Blobs first: one that is placed meanwhile is then no candidate.
        found = list(self.blobs.all_older_than(older_than))
        with self.database.read() as connection:
            named = blob_rows.named(connection)
        for blob_id in found:
            if blob_id not in named:
                self.blobs.delete(blob_id)
