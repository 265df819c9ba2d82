//! auth over HTTP, on every engine at hand, with access-policy played by a mock.

mod accounts;
mod agencies;
mod app;
mod consents;
mod matrix;
mod second_factor;
mod sessions;
mod tampering;
