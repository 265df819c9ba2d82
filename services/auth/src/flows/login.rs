//! Checking who somebody is: throttle, password, second factor. Every operation that wants a freshly checked password
//! comes through here, so that guessing is slowed down wherever it is tried.

use std::time::Duration;

use hbc_db::Tx;
use hbc_types::Timestamp;
use hbc_types::ids::SessionId;
use hbc_types::secret::SecretText;

use crate::app::App;
use crate::domain::throttle::{Counter, Scope};
use crate::domain::token::Amr;
use crate::domain::{input::Username, totp};
use crate::error::Error;
use crate::store::accounts::Account;
use crate::store::factors::Factor;
use crate::store::{Rows, StoreError};

/// An address that succeeded is known for this long.
const KNOWN: Duration = Duration::from_secs(90 * 24 * 3600);

/// Where an attempt comes from: what its failures are counted under.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Somebody who is not logged in, at this address. It is for counting only.
    Address(String),
    /// Somebody who is: no stranger slows them down, and they slow down nobody else.
    Session(SessionId),
}

/// What somebody shows to prove who they are.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The password.
    pub password: SecretText,
    /// The second factor's code.
    pub totp: Option<SecretText>,
    /// Where the request comes from.
    pub origin: Origin,
}

/// Somebody whose credentials were checked just now.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The account as it stood.
    pub account: Account,
    /// How it was checked.
    pub amr: Amr,
}

impl Proven {
    /// The account as it stands in the transaction that rests on the proof. What was proved counts no more if the password,
    /// the second factor or the standing changed meanwhile.
    pub async fn still(&self, rows: &Rows, tx: &mut Tx) -> Result<Account, Error> {
        let proved = &self.account;
        let now = rows.account(tx, proved.id.as_str()).await?.ok_or(Error::BadCredentials)?;
        let same = now.password_hash == proved.password_hash
            && now.second_factor_at == proved.second_factor_at
            && (!now.standing.is_stopped() || now.standing == proved.standing);
        if same { Ok(now) } else { Err(Error::BadCredentials) }
    }
}

/// The counters' names for one attempt.
#[derive(Clone, Debug)]
struct Attempt {
    pair: String,
    account: String,
    address: String,
    /// Comes from a session: only the pair is counted.
    in_session: bool,
}

impl Attempt {
    fn new(app: &App, username: &str, origin: &Origin) -> Self {
        let (address, in_session) = match origin {
            Origin::Address(address) => (address.as_str(), false),
            Origin::Session(session) => (session.as_str(), true),
        };
        let subject = |scope| app.store.rows.throttle_subject(scope, username, address);
        Self {
            pair: subject(Scope::Pair),
            account: subject(Scope::Account),
            address: subject(Scope::Address),
            in_session,
        }
    }

    /// What counts for it: an owner who is known here is not slowed down by strangers.
    fn scopes(&self, known: bool) -> Vec<(Scope, String)> {
        let mut scopes = vec![(Scope::Pair, self.pair.clone())];
        if !known {
            scopes.push((Scope::Account, self.account.clone()));
            scopes.push((Scope::Address, self.address.clone()));
        }
        scopes
    }

    /// Under what codes of the second factor are counted.
    fn factor(&self, known: bool) -> (Scope, String) {
        (Scope::Factor, if known { self.pair.clone() } else { self.account.clone() })
    }
}

/// One admitted attempt, counted as failed until it succeeds; while it lives, no other of the same account from the same
/// place is looked at.
pub struct Guard {
    username: String,
    attempt: Attempt,
    /// Whether the owner is known there.
    known: bool,
    /// The counters as they were, and as this attempt left them.
    counted: Vec<Counted>,
    _one_at_a_time: tokio::sync::OwnedMutexGuard<()>,
}

/// A counter that an attempt was added to.
#[derive(Clone, Debug)]
struct Counted {
    scope: Scope,
    subject: String,
    before: Counter,
    after: Counter,
}

impl Guard {
    /// Waits for its turn; refuses an attempt that comes too early. It is counted in the transaction that admits it, before
    /// anything is compared: however many come at once, no more are looked at than the counters allow.
    pub async fn enter(app: &App, username: &str, origin: &Origin) -> Result<Self, Error> {
        let username = Username::parse(username).map(|name| name.as_str().to_owned()).unwrap_or_default();
        let attempt = Attempt::new(app, &username, origin);
        let one_at_a_time = app.attempts.lock(&attempt.pair).await;
        let since = app.clock.now().minus(KNOWN);
        let known = attempt.in_session
            || app.store.rows.has_succeeded(app.store.db.reads(), &attempt.pair, since).await?;
        let counted = count(app, attempt.scopes(known)).await?;
        Ok(Self { username, attempt, known, counted, _one_at_a_time: one_at_a_time })
    }

    /// The folded username; empty for a text that is none.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// It failed: gives `error`, or how long the account is closed there.
    pub fn fail<T>(&self, app: &App, error: Error) -> Result<T, Error> {
        let pair = self.counted.first().map(|counted| counted.after).unwrap_or_default();
        match pair.wait(Scope::Pair, app.clock.now()) {
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

    /// Takes the attempt back: it neither failed nor succeeded.
    pub async fn take_back(self, app: &App) -> Result<(), Error> {
        take_back(app, self.counted).await
    }

    /// Forgets the failures.
    pub async fn succeed(self, app: &App) -> Result<(), Error> {
        self.succeed_with(app, None).await
    }

    /// Forgets the pair's failures and those of its codes, takes back what was counted elsewhere, marks the pair known, and
    /// stores the used step of the second factor.
    async fn succeed_with(self, app: &App, factor: Option<Factor>) -> Result<(), Error> {
        let Self { attempt, known, counted, .. } = self;
        let now = app.clock.now();
        app.store
            .write(move |tx, rows| {
                Box::pin(async move {
                    for counted in counted.iter().filter(|counted| counted.scope != Scope::Pair) {
                        refund(&rows, tx, counted).await?;
                    }
                    rows.clear_counter(tx, Scope::Pair, &attempt.pair).await?;
                    if !attempt.in_session {
                        rows.mark_success(tx, &attempt.pair, now).await?;
                    }
                    if let Some(factor) = &factor {
                        let (scope, subject) = attempt.factor(known);
                        rows.clear_counter(tx, scope, &subject).await?;
                        use_step(&rows, tx, factor).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

/// One attempt of whom no name is known: counted as failed for its address until it is taken back.
pub struct Unnamed(Vec<Counted>);

impl Unnamed {
    /// Refuses an attempt that comes too early, and counts it.
    pub async fn enter(app: &App, address: &str) -> Result<Self, Error> {
        let subject = app.store.rows.throttle_subject(Scope::Address, "", address);
        Ok(Self(count(app, vec![(Scope::Address, subject)]).await?))
    }

    /// It did not fail.
    pub async fn take_back(self, app: &App) -> Result<(), Error> {
        take_back(app, self.0).await
    }
}

/// Takes one attempt out of these counters.
async fn take_back(app: &App, counted: Vec<Counted>) -> Result<(), Error> {
    app.store
        .write(move |tx, rows| {
            Box::pin(async move {
                for counted in &counted {
                    refund(&rows, tx, counted).await?;
                }
                Ok(())
            })
        })
        .await
}

/// Counts an attempt in these scopes, unless one of them says that it comes too early.
async fn count(app: &App, scopes: Vec<(Scope, String)>) -> Result<Vec<Counted>, Error> {
    let now = app.clock.now();
    app.store
        .write(move |tx, rows| {
            Box::pin(async move {
                let mut counted = Vec::with_capacity(scopes.len());
                let mut wait = None;
                for (scope, subject) in scopes {
                    let before = rows.counter(&mut *tx, scope, &subject).await?;
                    wait = wait.max(before.wait(scope, now));
                    counted.push(Counted { scope, subject, before, after: before.failed(scope, now) });
                }
                if let Some(wait) = wait {
                    return Err(Error::TooManyAttempts(wait));
                }
                for Counted { scope, subject, after, .. } in &counted {
                    rows.put_counter(tx, *scope, subject, *after).await?;
                }
                Ok(counted)
            })
        })
        .await
}

/// Takes one attempt out of a counter; what others added meanwhile stays.
async fn refund(rows: &Rows, tx: &mut Tx, counted: &Counted) -> Result<(), Error> {
    let Counted { scope, subject, before, after } = counted;
    let now = rows.counter(&mut *tx, *scope, subject).await?;
    let left =
        if now == *after { *before } else { Counter { failures: now.failures.saturating_sub(1), ..now } };
    if left.failures == 0 {
        rows.clear_counter(tx, *scope, subject).await?;
    } else {
        rows.put_counter(tx, *scope, subject, left).await?;
    }
    Ok(())
}

/// Checks `proof` for the account named `username`. Unknown names, wrong passwords and tampered rows get one answer and
/// cost the same.
pub async fn prove(app: &App, username: &str, proof: Proof) -> Result<Proven, Error> {
    let guard = Guard::enter(app, username, &proof.origin).await?;
    let guessed = proof.totp.is_some();
    match check(app, &guard, proof).await {
        Ok((account, factor)) => {
            let amr = if factor.is_some() { Amr::PasswordAndCode } else { Amr::Password };
            guard.succeed_with(app, factor).await?;
            Ok(Proven { account, amr })
        }
        Err(Error::BadCredentials) => guard.fail(app, Error::BadCredentials),
        Err(Error::SecondFactor) if guessed => guard.fail(app, Error::SecondFactor),
        Err(error) => {
            guard.take_back(app).await?;
            Err(error)
        }
    }
}

async fn check(app: &App, guard: &Guard, proof: Proof) -> Result<(Account, Option<Factor>), Error> {
    let account = match app.store.rows.account_by_name(app.store.db.reads(), guard.username()).await {
        Ok(account) => account,
        Err(StoreError::Tampered(_alarmed)) => None,
        Err(error) => return Err(error.into()),
    };
    let hash = account.as_ref().map(|account| account.password_hash.clone());
    let right = app.passwords.matches(proof.password, hash).await?;
    let account = account.filter(|_account| right).ok_or(Error::BadCredentials)?;
    if account.second_factor_at.is_none() {
        return Ok((account, None));
    }
    if proof.totp.is_some() {
        // Whoever knows the password has only so many codes.
        count(app, vec![guard.attempt.factor(guard.known)]).await?;
    }
    let factor = check_factor(app, &account, proof.totp.as_ref()).await?;
    Ok((account, Some(factor)))
}

/// Stores a used step unless a conflicting request used it, or a later one, meanwhile.
async fn use_step(rows: &Rows, tx: &mut Tx, factor: &Factor) -> Result<(), Error> {
    let stored = rows.factor(&mut *tx, &factor.account).await?.ok_or(Error::Tampered)?;
    if stored.last_step >= factor.last_step {
        return Err(Error::SecondFactor);
    }
    Ok(rows.put_factor(tx, factor).await?)
}

/// The account's factor with the step of `code` used.
async fn check_factor(app: &App, account: &Account, code: Option<&SecretText>) -> Result<Factor, Error> {
    let stored = app.store.rows.factor(app.store.db.reads(), account.id.as_str()).await?;
    // The account says when its factor was confirmed: an earlier one does not come back.
    let is_its =
        |factor: &Factor| factor.confirmed_at.is_some() && factor.confirmed_at == account.second_factor_at;
    let Some(mut factor) = stored.filter(is_its) else {
        tracing::error!(
            alarm = "factor_missing",
            "A second factor was removed or replaced by another hand: its account is refused"
        );
        return Err(Error::Tampered);
    };
    let code = code.ok_or(Error::SecondFactor)?;
    factor.last_step = matching_step(app, &factor, code, app.clock.now())?.ok_or(Error::SecondFactor)?;
    Ok(factor)
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
