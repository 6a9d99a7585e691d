"""
Passwords: which are refused, and how they are kept.

Length and a list of common ones, no rules of composition, no expiry: NIST SP 800-63B-4, section
3.1.1.2. Kept as argon2id with argon2-cffi's parameters (RFC 9106, low memory), made anew when these
rise. Hashing takes 64 MiB and some 50 ms, so only a few run at a time: a flood of attempts waits or
is refused, and does not fill the memory.
"""

from __future__ import annotations

import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from linkage.errors import KeyRefused, LinkageError, TooManyRequests

LEAST_WITH_TOTP = 12
LEAST_ALONE = 15
MOST = 256
_AT_A_TIME = 4
_PATIENCE = 10.0
"""Seconds that one waits for its turn."""

COMMON = frozenset(
    """
    123456789012 1234567890123 1234567890123456 12345678910 123123123123 111111111111 000000000000
    password1234 passwordpassword password123456 password12345 p@ssw0rd1234 p@ssword1234
    qwertyuiop12 qwertyuiop123 qwertyuiopasdf qwertyuiop[] 1q2w3e4r5t6y 1qaz2wsx3edc
    1qaz2wsx3edc4rfv qazwsxedcrfv qwerty123456 qwertyqwerty asdfghjkl123 asdfghjkl;' zxcvbnm12345
    zaq12wsxcde3 q1w2e3r4t5y6 abcdefghijkl abcdefghijklmnop abc123abc123 abcd1234abcd aaaaaaaaaaaa
    iloveyou1234 iloveyou123456 iloveyouiloveyou letmeinletmein letmein12345 welcome12345
    welcome123456 welcomewelcome changeme1234 changeme12345 changemechangeme administrator
    administrator1 admin1234567 admin12345678 administrator123 superuser123 rootrootroot
    football1234 baseball1234 basketball12 princess1234 sunshine1234 dragondragon monkeymonkey
    master123456 michael12345 trustno1trustno1 correcthorsebatterystaple
    passphrase123 mypassword123 secretsecret secretpassword hospital1234 summer202512 winter202512
    linkagelinkage commonslinkage commons-linkage linkage-broker honestbroker honest broker
    """.split()
) | {"correct horse battery staple", "honest broker"}
"""Of lists of leaked passwords, those that are long enough to get this far; and this program's."""


def require_sound(password: str, *, name: str, with_totp: bool) -> None:
    """Raises KeyRefused for a password that is too short, too long, common, or made of the name."""
    least = LEAST_WITH_TOTP if with_totp else LEAST_ALONE
    if not least <= len(password) <= MOST:
        raise KeyRefused(
            f"a password has {least} to {MOST} characters",
            hint="several words with spaces are fine; no digits or signs are asked for",
        )
    plain = _normal(password).casefold()
    if plain in COMMON or len(set(plain)) < 5:
        raise KeyRefused("this password is among the first that are tried", hint="choose another")
    if plain.replace(name.casefold(), "").strip(" -_.0123456789!") == "":
        raise KeyRefused("the password is made of the account's name", hint="choose another")


class Hashes:
    """Makes and checks argon2id hashes, a few at a time. Safe to share between threads."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turns = threading.BoundedSemaphore(_AT_A_TIME)
        self._nobodys = ""

    @classmethod
    def of_codes(cls) -> Hashes:
        """For codes drawn at random, 59 bits: nobody guesses them, so they may cost less."""
        return cls(PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1))

    def make(self, password: str) -> str:
        """Return the hash. Raises TooManyRequests where no turn comes."""
        with _Turn(self._turns):
            return self._hasher.hash(_normal(password))

    def right(self, kept: str | None, password: str) -> bool:
        """
        Is it the password? Where nothing is kept, it takes as long, and is wrong: how long an
        answer takes does not tell whether there is such an account.
        """
        if not self._nobodys:
            self._nobodys = self.make("nobody's password")
        with _Turn(self._turns):
            try:
                self._hasher.verify(kept or self._nobodys, _normal(password))
            except VerifyMismatchError:
                return False
            except (VerificationError, InvalidHashError):
                raise LinkageError("a stored hash is damaged", hint="reset the account") from None
        return kept is not None

    def outdated(self, kept: str) -> bool:
        """Was it made with lower parameters than today's?"""
        return self._hasher.check_needs_rehash(kept)


class _Turn:
    """A place among those that hash."""

    def __init__(self, turns: threading.BoundedSemaphore) -> None:
        self._turns = turns

    def __enter__(self) -> None:
        if not self._turns.acquire(timeout=_PATIENCE):
            raise TooManyRequests(
                "too many people sign in at this moment", hint="try again", retry_after=5
            )

    def __exit__(self, *_: object) -> None:
        self._turns.release()


def _normal(password: str) -> str:
    """Return it in one Unicode form, so that two keyboards type one password (NFKC)."""
    return unicodedata.normalize("NFKC", password)
