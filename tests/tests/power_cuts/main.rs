//! Power cuts on a disk that forgets: the running stack loses power under load, everything that was not synced is gone, and
//! afterwards everything that was acknowledged is there.
//!
//! `disk` is that disk, under the deployment's folder alone and for nobody but the stack's processes; `luck` what it has
//! beyond what it was told to write; `forgetting` shows that it forgets. `founding` cuts the power after `hbc init` and in
//! first starts, `rounds` under the load of `load`, again while everything comes up, and at rest.
//!
//! Left out: the IPFS daemon. It is a Go program, which calls no C library, so its repository stays as it is at the cut.

#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

mod disk;
mod forgetting;
mod founding;
mod load;
mod luck;
mod powered;
mod rounds;
