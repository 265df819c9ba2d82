//! Checking who somebody is: throttle, password, second factor. Every operation that wants a freshly checked password
//! comes through here, so that guessing is slowed down wherever it is tried.

use std::time::Duration;

use hbc_types::Timestamp;
use hbc_types::secret::SecretText;

use crate::app::App;
use crate::domain::throttle::{Counter, Scope};
use crate::domain::token::Amr;
use crate::domain::{input::Username, totp};
use crate::error::Error;
use crate::store::StoreError;
use crate::store::accounts::Account;
use crate::store::factors::Factor;

/// An address that succeeded is known for this long.
const KNOWN: Duration = Duration::from_secs(90 * 24 * 3600);
/// How often the mark of a known address is renewed at most.
const RENEW: Duration = Duration::from_secs(24 * 3600);

/// What somebody shows to prove who they are.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The password.
    pub password: SecretText,
    /// The second factor's code.
    pub totp: Option<SecretText>,
    /// Where the request comes from: for counting only.
    pub address: String,
}

/// Somebody whose credentials were checked just now.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The account as it stood.
    pub account: Account,
    /// How it was checked.
    pub amr: Amr,
}

/// The counters' names for one attempt.
struct Attempt {
    pair: String,
    account: String,
    address: String,
}

impl Attempt {
    fn new(app: &App, username: &str, address: &str) -> Self {
        let subject = |scope| app.store.rows.throttle_subject(scope, username, address);
        Self {
            pair: subject(Scope::Pair),
            account: subject(Scope::Account),
            address: subject(Scope::Address),
        }
    }

    fn all(&self) -> [(Scope, &str); 3] {
        [(Scope::Pair, &self.pair), (Scope::Account, &self.account), (Scope::Address, &self.address)]
    }
}

/// One admitted attempt; while it lives, no other of the same account from the same address is looked at.
pub struct Guard {
    username: String,
    attempt: Attempt,
    known: Known,
    _one_at_a_time: tokio::sync::OwnedMutexGuard<()>,
}

impl Guard {
    /// Waits for its turn; refuses an attempt that comes too early.
    pub async fn enter(app: &App, username: &str, address: &str) -> Result<Self, Error> {
        let username = Username::parse(username).map(|name| name.as_str().to_owned()).unwrap_or_default();
        let attempt = Attempt::new(app, &username, address);
        let one_at_a_time = app.attempts.lock(&attempt.pair).await;
        let known = admit(app, &attempt).await?;
        Ok(Self { username, attempt, known, _one_at_a_time: one_at_a_time })
    }

    /// The folded username; empty for a text that is none.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Counts a failure, then gives `error`.
    pub async fn fail<T>(&mut self, app: &App, error: Error) -> Result<T, Error> {
        fail(app, &self.attempt, error).await
    }

    /// Forgets the failures.
    pub async fn succeed(&self, app: &App) -> Result<(), Error> {
        succeed(app, &self.attempt, &self.known, None).await
    }
}

/// Checks `proof` for the account named `username`. Unknown names, wrong passwords and tampered rows get one answer and
/// cost the same.
pub async fn prove(app: &App, username: &str, proof: Proof) -> Result<Proven, Error> {
    let mut guard = Guard::enter(app, username, &proof.address).await?;
    let account = match app.store.rows.account_by_name(app.store.db.reads(), guard.username()).await {
        Ok(account) => account,
        Err(StoreError::Tampered(_alarmed)) => None,
        Err(error) => return Err(error.into()),
    };
    let hash = account.as_ref().map(|account| account.password_hash.clone());
    let right = app.passwords.matches(proof.password, hash).await?;
    let Some(account) = account.filter(|_account| right) else {
        return guard.fail(app, Error::BadCredentials).await;
    };
    match check_factor(app, &account, proof.totp.as_ref()).await {
        Ok(factor) => {
            let amr = if factor.is_some() { Amr::PasswordAndCode } else { Amr::Password };
            succeed(app, &guard.attempt, &guard.known, factor).await?;
            Ok(Proven { account, amr })
        }
        Err(Error::SecondFactor) if proof.totp.is_some() => guard.fail(app, Error::SecondFactor).await,
        Err(error) => Err(error),
    }
}

/// What an attempt was admitted under.
struct Known {
    /// There are failures to forget.
    failures: bool,
    /// The pair's mark is fresh enough.
    marked: bool,
}

/// Refuses an attempt that comes too early.
async fn admit(app: &App, attempt: &Attempt) -> Result<Known, Error> {
    let (reads, now) = (app.store.db.reads(), app.clock.now());
    let pair = app.store.rows.counter(reads, Scope::Pair, &attempt.pair).await?;
    let mut wait = pair.wait(Scope::Pair, now);
    if !app.store.rows.has_succeeded(reads, &attempt.pair, now.minus(KNOWN)).await? {
        let account = app.store.rows.counter(reads, Scope::Account, &attempt.account).await?;
        wait = wait.max(account.wait(Scope::Account, now));
    }
    let address = app.store.rows.counter(reads, Scope::Address, &attempt.address).await?;
    wait = wait.max(address.wait(Scope::Address, now));
    if let Some(wait) = wait {
        return Err(Error::TooManyAttempts(wait));
    }
    let marked = app.store.rows.has_succeeded(reads, &attempt.pair, now.minus(RENEW)).await?;
    Ok(Known { failures: pair.failures > 0, marked })
}

/// Counts a failure in every scope, then gives `error`.
async fn fail<T>(app: &App, attempt: &Attempt, error: Error) -> Result<T, Error> {
    let (rows, now) = (app.store.rows.clone(), app.clock.now());
    let subjects = attempt.all().map(|(scope, subject)| (scope, subject.to_owned()));
    let pair = app
        .store
        .db
        .write(move |tx| {
            Box::pin(async move {
                let mut pair = Counter::default();
                for (scope, subject) in &subjects {
                    let counter = rows.counter(&mut *tx, *scope, subject).await?.failed(*scope, now);
                    rows.put_counter(tx, *scope, subject, counter).await?;
                    if *scope == Scope::Pair {
                        pair = counter;
                    }
                }
                Ok::<_, Error>(pair)
            })
        })
        .await?;
    match pair.wait(Scope::Pair, now) {
        Some(wait) if wait > Duration::from_secs(60) => {
            tracing::warn!(
                login.failures = pair.failures,
                "An account is closed to an address after failed logins"
            );
            Err(Error::TooManyAttempts(wait))
        }
        _ => Err(error),
    }
}

/// Forgets the pair's failures, marks it known, and stores the used step of the second factor.
async fn succeed(app: &App, attempt: &Attempt, known: &Known, factor: Option<Factor>) -> Result<(), Error> {
    if !known.failures && known.marked && factor.is_none() {
        return Ok(());
    }
    let (rows, now, pair) = (app.store.rows.clone(), app.clock.now(), attempt.pair.clone());
    app.store
        .db
        .write(move |tx| {
            Box::pin(async move {
                rows.clear_counter(tx, Scope::Pair, &pair).await?;
                rows.mark_success(tx, &pair, now).await?;
                if let Some(factor) = &factor {
                    use_step(&rows, tx, factor).await?;
                }
                Ok(())
            })
        })
        .await
}

/// Stores a used step unless a conflicting request used it, or a later one, meanwhile.
async fn use_step(rows: &crate::store::Rows, tx: &mut hbc_db::Tx, factor: &Factor) -> Result<(), Error> {
    let stored = rows.factor(&mut *tx, &factor.account).await?.ok_or(Error::Tampered)?;
    if stored.last_step >= factor.last_step {
        return Err(Error::SecondFactor);
    }
    Ok(rows.put_factor(tx, factor).await?)
}

/// The account's factor with the step of `code` used, or nothing where no factor is set up.
async fn check_factor(
    app: &App,
    account: &Account,
    code: Option<&SecretText>,
) -> Result<Option<Factor>, Error> {
    if account.second_factor_at.is_none() {
        return Ok(None);
    }
    let stored = app.store.rows.factor(app.store.db.reads(), account.id.as_str()).await?;
    let Some(mut factor) = stored.filter(|factor| factor.confirmed_at.is_some()) else {
        tracing::error!(
            alarm = "factor_missing",
            "A second factor was removed by another hand: its account is refused"
        );
        return Err(Error::Tampered);
    };
    let Some(code) = code else { return Err(Error::SecondFactor) };
    match matching_step(app, &factor, code, app.clock.now())? {
        Some(step) => {
            factor.last_step = step;
            Ok(Some(factor))
        }
        None => Err(Error::SecondFactor),
    }
}

/// The unused step that `code` is right for.
pub fn matching_step(
    app: &App,
    factor: &Factor,
    code: &SecretText,
    now: Timestamp,
) -> Result<Option<i64>, Error> {
    let secret = totp::open(&app.keys.factors, &factor.account, &factor.nonce, &factor.encrypted)?;
    Ok(totp::check(&secret, code, now, factor.last_step))
}
