//! Starts the whole stack on free ports for tests, with fixed clocks and seeded randomness.
