//! Storage over HTTP, with its neighbours played by [`world`].

#![cfg(test)]

mod anchors;
mod app;
mod changes;
mod cheap_writer;
mod conditional;
mod devices;
mod failures;
mod gauges;
mod imports;
mod kubo;
mod loops;
mod matrix;
mod no_answer_before_a_decision;
mod random_searches;
mod reads;
mod records_that_spoil_others;
mod search;
mod search_matrix;
mod stock_clients;
mod twin_patients;
mod world;
