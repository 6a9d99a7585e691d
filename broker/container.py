"""Everything a broker process needs, built once: `Broker.at(home)`."""

from __future__ import annotations

from dataclasses import dataclass

from broker.auth import SignIn
from broker.blobs import Blobs
from broker.config import Home
from broker.services.admins import Admins
from broker.services.oversight import Oversight
from broker.services.questions import Questions
from broker.services.relay import Relay
from broker.services.releases import Releases
from broker.services.runs import Runs
from broker.services.studies import Studies
from broker.services.uploads import Uploads
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
    runs: Runs
    releases: Releases
    questions: Questions
    relay: Relay
    oversight: Oversight

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
            runs=Runs(database),
            releases=Releases(database),
            questions=Questions(database),
            relay=Relay(database, blobs, config.limits),
            oversight=Oversight(database),
        )
