//! Which clients' keys are being fetched, and when that was tried last: one fetch of a client's keys at a time, whoever needs
//! them waits for it, and the next one a minute later at the earliest. In memory: what is forgotten by a restart is worth one
//! fetch, and to remember it durably would let strangers write.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hbc_types::Timestamp;
use hbc_types::ids::OAuthClientId;
use tokio::sync::watch;

/// Between the beginnings of two fetches of one client's keys.
const PAUSE: Duration = Duration::from_secs(60);
/// Clients kept before those whose last fetch is long over are thrown out.
const CLIENTS: usize = 10_000;

/// What became of a fetch: nothing yet, or whether it gave keys.
pub type Outcome = Option<bool>;

/// The fetches. There are no more than registered clients with an address.
#[derive(Debug, Default)]
pub struct KeyFetches(Mutex<HashMap<OAuthClientId, Fetch>>);

#[derive(Debug)]
struct Fetch {
    began: Timestamp,
    outcome: watch::Receiver<Outcome>,
}

impl Fetch {
    /// Whether it goes on. One whose task is gone is over.
    fn is_under_way(&self) -> bool {
        self.outcome.borrow().is_none() && self.outcome.has_changed().is_ok()
    }

    /// Whether another one may begin. A clock that was set back forbids nothing.
    fn is_past(&self, now: Timestamp) -> bool {
        now < self.began || now.since(self.began) >= PAUSE
    }
}

/// Whose turn it is.
#[derive(Debug)]
pub enum Turn {
    /// Who asks: they fetch, and say what became of it.
    Now(watch::Sender<Outcome>, watch::Receiver<Outcome>),
    /// Somebody else's: what they find is for all.
    UnderWay(watch::Receiver<Outcome>),
    /// Nobody's: it was tried within the last minute.
    Lately,
}

impl KeyFetches {
    /// Whose turn it is to fetch this client's keys.
    pub fn turn(&self, client: &OAuthClientId, now: Timestamp) -> Turn {
        let mut fetches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = fetches.get(client) {
            if last.is_under_way() {
                return Turn::UnderWay(last.outcome.clone());
            }
            if !last.is_past(now) {
                return Turn::Lately;
            }
        }
        if fetches.len() >= CLIENTS {
            fetches.retain(|_client, fetch| fetch.is_under_way() || !fetch.is_past(now));
        }
        let (sender, outcome) = watch::channel(None);
        fetches.insert(client.clone(), Fetch { began: now, outcome: outcome.clone() });
        Turn::Now(sender, outcome)
    }

    /// Clients whose last fetch gave nothing.
    pub fn failing(&self) -> u64 {
        let fetches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fetches.values().filter(|fetch| *fetch.outcome.borrow() == Some(false)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use hbc_types::Random;
    use hbc_types::ids::ClientId;

    use super::*;

    #[test]
    fn one_fetches_the_others_wait_and_the_next_one_is_a_minute_later() {
        let fetches = KeyFetches::default();
        let random = Random::seeded(1);
        let [one, other] = std::array::from_fn(|_| OAuthClientId::Program(ClientId::random(&random)));
        let at = |seconds: u64| Timestamp::from_ms(0).plus(Duration::from_secs(seconds));
        let Turn::Now(told, _) = fetches.turn(&one, at(0)) else { panic!("nobody fetched yet") };
        let Turn::UnderWay(outcome) = fetches.turn(&one, at(70)) else { panic!("it goes on") };
        assert!(matches!(fetches.turn(&other, at(1)), Turn::Now(..)), "another's are its own");
        assert_eq!(*outcome.borrow(), None);
        told.send_replace(Some(false));
        assert_eq!((*outcome.borrow(), fetches.failing()), (Some(false), 1));
        assert!(matches!(fetches.turn(&one, at(59)), Turn::Lately));
        let Turn::Now(told, _) = fetches.turn(&one, at(60)) else { panic!("a minute later") };
        assert_eq!(fetches.failing(), 0);
        // Who ends without a word holds nobody up.
        drop(told);
        assert!(matches!(fetches.turn(&one, at(61)), Turn::Lately));
        assert!(matches!(fetches.turn(&one, at(59)), Turn::Now(..)), "the clock was set back");
    }
}
