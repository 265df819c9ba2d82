//! The skeleton of a service: what all of them do alike, so that each one only says what it is.

pub mod gauges;
pub mod jobs;
