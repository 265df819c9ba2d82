//! End-to-end, contract, store and chaos tests on real parts.
