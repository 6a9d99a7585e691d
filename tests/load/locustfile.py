"""
Sites that poll, for locust. Each has its own key, signs in, and asks in turn for what a site looks
at: the study, the runs, its inbox, its dataset version, second looks. A token that expires is
renewed, as a site's client does.

LOAD_PLAN: a JSON file with pause (seconds between two calls, lowest and highest) and, by
"study/party", each site's private key. tests.load makes it, and deletes it with the folder.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
import uuid
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import OKPKey
from locust import FastHttpUser, constant, task

PLAN: dict[str, Any] = json.loads(Path(os.environ["LOAD_PLAN"]).read_text())
NAMES = itertools.cycle(PLAN["sites"])
AUDIENCE = "commons-linkage-broker"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
RENEW_BEFORE_S = 5


class Site(FastHttpUser):
    """One site. FastHttpUser: the load generator shares the processors with what it measures."""

    wait_time = constant(0)

    def on_start(self) -> None:
        self.subject = next(NAMES)
        self.key = OKPKey.import_key(PLAN["sites"][self.subject])
        self.study, _, self.party = self.subject.partition("/")
        self.token, self.until = "", 0.0
        self.turn = random.randrange(5)
        time.sleep(random.uniform(0, PLAN["pause"][1]))

    @task
    def poll(self) -> None:
        base = f"/v1/studies/{self.study}"
        what = [
            ("study", base),
            ("runs", f"{base}/runs"),
            ("inbox", f"{base}/inbox"),
            ("dataset", f"{base}/datasets/{self.party}/1"),
            ("second looks", f"{base}/second-looks"),
        ]
        self.turn += 1
        name, path = what[self.turn % len(what)]
        self._sign_in()
        headers = {"Authorization": f"Bearer {self.token}"}
        self.client.get(path, name=name, headers=headers)
        time.sleep(random.uniform(*PLAN["pause"]))

    def _sign_in(self) -> None:
        if time.time() < self.until - RENEW_BEFORE_S:
            return
        now = int(time.time())
        claims = {
            "iss": self.subject,
            "sub": self.subject,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 120,
        }
        claims["jti"] = str(uuid.uuid4())
        assertion = jwt.encode({"alg": "Ed25519"}, claims, self.key, algorithms=["Ed25519"])
        body = {"grant_type": GRANT, "assertion": assertion}
        with self.client.post("/v1/token", name="token", json=body, catch_response=True) as answer:
            if answer.status_code == 200:
                told = answer.json()
                self.token, self.until = told["access_token"], now + told["expires_in"]
                answer.success()
