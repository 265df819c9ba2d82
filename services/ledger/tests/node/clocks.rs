//! One member's clock is off by an hour: the others go on, take no block from the future, its promises hold, and when all
//! is said the chain is silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hbc_chain::header::Header;
use hbc_ledger::config::VerifyMode;
use hbc_types::{Clock, Timestamp};

use crate::net::{Net, txid};

const HOUR_MS: i64 = 3_600_000;
const WRONG: usize = 3;

/// A clock that goes at the right pace from a wrong time on.
pub struct WrongClock {
    pub clock: Clock,
    stop: Arc<AtomicBool>,
    hand: Option<std::thread::JoinHandle<()>>,
}

impl WrongClock {
    pub fn off_by(ms: i64) -> Self {
        let clock = Clock::fixed(Timestamp::from_ms(Clock::system().now().ms() + ms));
        let stop = Arc::new(AtomicBool::new(false));
        let (hand, ended) = (clock.clone(), stop.clone());
        let hand = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
                let goal = Clock::system().now().ms() + ms;
                let behind = u64::try_from(goal - hand.now().ms()).unwrap_or(0);
                hand.advance(Duration::from_millis(behind));
            }
        });
        Self { clock, stop, hand: Some(hand) }
    }
}

impl Drop for WrongClock {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(hand) = self.hand.take() {
            let _ = hand.join();
        }
    }
}

/// Four members of which the last has another time, a promise of each, and what came of them.
async fn four_of_which_one_is_off_by(ms: i64) {
    let wrong = WrongClock::off_by(ms);
    let mut net = Net::new(4, VerifyMode::Incremental);
    for index in 0..WRONG {
        net.run(index);
    }
    net.run_by(WRONG, wrong.clock.clone());
    let mut promised = Vec::new();
    for turn in 0..12 {
        // What is signed now is too early for a clock that is behind: its own word for a refusal, not a promise.
        let index = turn % 4;
        let dated = if index == WRONG && ms < 0 { ms } else { 0 };
        let jws = net.transaction_dated(dated);
        net.submit(index, &jws).await.unwrap();
        net.finality(turn % 3, &txid(&jws)).await;
        promised.push(txid(&jws));
    }
    for txid in &promised {
        for index in 0..4 {
            net.finality(index, txid).await;
        }
    }
    net.one_tip(&[0, 1, 2, 3]).await;
    let latest = Clock::system().now().unsigned_ms() + 30_000;
    for block in net.blocks(0, 1).await.blocks {
        let header = Header::from_bytes(block.header.as_slice()).unwrap();
        assert!(header.time_ms <= latest, "block {} is from the future", header.height);
    }
    falls_abstaining(&net).await;
}

/// Nobody has anything to say but the member whose heartbeat, by its clock, has long been due.
async fn falls_abstaining(net: &Net) {
    let (started, mut height, mut since) = (Instant::now(), 0, Instant::now());
    while since.elapsed() < Duration::from_secs(6) {
        assert!(started.elapsed() < Duration::from_secs(60), "block after block without a transaction");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = net.status(0).await.height;
        if now != height {
            (height, since) = (now, Instant::now());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_member_whose_clock_is_an_hour_ahead_gets_no_block_from_the_future_in() {
    four_of_which_one_is_off_by(HOUR_MS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_member_whose_clock_is_an_hour_behind_follows_the_others() {
    four_of_which_one_is_off_by(-HOUR_MS).await;
}
