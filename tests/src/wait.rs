//! Waiting for a condition, with a deadline.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(50);
/// How long a condition may take unless a test says otherwise: a loaded machine of two cores.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Looks until `look` finds something; an error of `look` ends the wait, as does the deadline.
pub async fn until_within<T, F, Looked>(what: impl Display, limit: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Looked,
    Looked: Future<Output = Result<Option<T>>>,
{
    let began = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if began.elapsed() > limit {
            bail!("after {} s still not so: {what}", limit.as_secs());
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The same within [`LIMIT`].
pub async fn until<T, F, Looked>(what: impl Display, look: F) -> Result<T>
where
    F: FnMut() -> Looked,
    Looked: Future<Output = Result<Option<T>>>,
{
    until_within(what, LIMIT, look).await
}
