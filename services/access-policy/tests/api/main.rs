//! The service over HTTP, with users and services as its neighbours see them.

#![cfg(test)]

mod admissions;
mod closing;
mod consents;
mod devices;
mod figures;
mod hostile_database;
mod keys;
mod log;
mod loops;
mod matrix;
mod requests;
mod roots;
mod staff_keys;
mod stolen_key;
mod what_the_chain_says;
mod world;
