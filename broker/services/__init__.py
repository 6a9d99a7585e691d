"""Rules and state, by noun: no SQL, no HTTP."""
