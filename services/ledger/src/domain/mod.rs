//! What a node decides without I/O beyond the rules of `hbc_chain`: what waits for a block, which rows a healed chain
//! is made of, and when a node that lost its log may sign again.

pub mod double_sign_protection;
pub mod fair_queue;
pub mod healing;
