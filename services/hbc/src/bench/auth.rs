//! What auth makes of logins and tokens, in a whole development deployment over HTTP.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hbc_auth::Cost;
use hbc_client::Endpoint;
use hbc_client::operations::auth;
use hbc_types::Random;
use hbc_types::account::Custody;
use hbc_types::secret::SecretText;
use hbc_types::wire::auth::{Contact, Login, NewPatient, Refresh, Tokens};

use super::apps::{self, App};
use super::devices::{self, Device};
use super::limits::{Limits, repeat};
use super::programs::{Agencies, Program};
use super::table::{Figure, Table, per_second, ratio};
use crate::cli::BenchAuth;
use crate::stack::Stack;

/// What a client does over and over.
#[derive(Clone, Copy, Debug)]
enum Work {
    LogIn,
    Check,
    Refresh,
    Credentials,
    Exchange,
    DeviceTokens,
    Introspect,
}

/// A patient with a session, and the programs of an agency; devices that the patient paired, and an app that patients let in.
struct Client {
    auth: Endpoint,
    login: Login,
    tokens: Tokens,
    programs: Vec<Program>,
    devices: Vec<Device>,
    app: App,
    codes: Vec<SecretText>,
    turn: usize,
}

/// Patients who let the app in, of all clients: each has few codes at once, which are good for a minute.
const PATIENTS: usize = 20;

impl Client {
    async fn sign_up(auth: &Endpoint, programs: Vec<Program>, app: App, random: &Random) -> Result<Self> {
        let (login, tokens) = new_patient(auth, random).await?;
        let (devices, codes) = (Vec::new(), Vec::new());
        Ok(Self { auth: auth.clone(), login, tokens, programs, devices, app, codes, turn: 0 })
    }

    /// Has ready what is not to be measured, as one of so many clients.
    async fn get_ready(mut self, work: Work, clients: usize, random: Random) -> Result<Self> {
        match work {
            Work::LogIn | Work::Check | Work::Refresh | Work::Credentials | Work::Introspect => {}
            Work::Exchange => {
                let mut sessions = Vec::new();
                for _patient in 0..(PATIENTS / clients).max(1) {
                    sessions.push(new_patient(&self.auth, &random).await?.1.access_token);
                }
                for session in &sessions {
                    self.codes.extend(self.app.codes(&self.auth, session).await?);
                }
            }
            Work::DeviceTokens => {
                let session = self.auth.to(auth::log_in()).json(&self.login).fetch().await?.access_token;
                for _device in 0..(devices::MOST / clients).min(devices::EACH) {
                    self.devices.push(Device::paired(&self.auth, &session, &random).await?);
                }
            }
        }
        Ok(self)
    }

    /// Does it once; false if there is no more of it to be had.
    async fn once(&mut self, work: Work) -> Result<bool> {
        self.turn += 1;
        let turn = self.turn % self.programs.len().max(1);
        let program = self.programs.get_mut(turn).context("a client without programs")?;
        match work {
            Work::LogIn => {
                self.tokens = self.auth.to(auth::log_in()).once().json(&self.login).fetch().await?;
            }
            Work::Check => {
                let call = self.auth.to(auth::show_me()).once();
                call.bearer(self.tokens.access_token.expose()).fetch().await?;
            }
            Work::Refresh => {
                let refresh = Refresh { refresh_token: self.tokens.refresh_token.clone() };
                self.tokens = self.auth.to(auth::refresh_session()).once().json(&refresh).fetch().await?;
            }
            Work::Credentials => return program.get_token(&self.auth).await,
            Work::Exchange => match self.codes.pop() {
                Some(code) => self.app.exchange(&self.auth, &code).await?,
                None => return Ok(false),
            },
            Work::DeviceTokens => {
                let turn = self.turn % self.devices.len().max(1);
                let Some(device) = self.devices.get_mut(turn) else { return Ok(false) };
                return device.get_token(&self.auth).await;
            }
            Work::Introspect => program.introspect(&self.auth).await?,
        }
        Ok(true)
    }

    async fn go_on(mut self, work: Work, span: Duration) -> Result<(Self, Vec<Duration>)> {
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < span {
            let one = Instant::now();
            if !self.once(work).await? {
                break;
            }
            times.push(one.elapsed());
        }
        Ok((self, times))
    }
}

/// Signs a patient up and logs them in.
async fn new_patient(auth: &Endpoint, random: &Random) -> Result<(Login, Tokens)> {
    let word = || hex::encode(random.bytes::<12>());
    let (username, password) = (word(), SecretText::new(word()));
    let asked = NewPatient {
        username: username.clone(),
        password: password.clone(),
        contact: Contact::default(),
        custody: Custody::Server,
        root_public_key: None,
        root_pop: None,
        recovery_public_key: None,
        recovery_pop: None,
    };
    let call = auth.to(auth::sign_up_patient()).idempotency_key(&word()).json(&asked);
    call.fetch().await.context("a sign-up failed")?;
    let login = Login { username, password, totp: None };
    let tokens = auth.to(auth::log_in()).json(&login).fetch().await.context("a login failed")?;
    Ok((login, tokens))
}

/// Lets all clients do this at once; how long it took, and all times, ascending.
async fn all_at_once(
    clients: &mut Vec<Client>,
    work: Work,
    span: Duration,
    random: &Random,
) -> Result<(Duration, Vec<Duration>)> {
    let (count, mut ready) = (clients.len(), Vec::new());
    let getting: Vec<_> = clients
        .drain(..)
        .map(|client| hbc_service::spawn("bench client", client.get_ready(work, count, random.clone())))
        .collect();
    for client in getting {
        ready.push(client.await.context("a client failed")??);
    }
    let began = Instant::now();
    let at_work: Vec<_> = ready
        .into_iter()
        .map(|client| hbc_service::spawn("bench client", client.go_on(work, span)))
        .collect();
    let mut all = Vec::new();
    for client in at_work {
        let (client, times) = client.await.context("a client failed")??;
        clients.push(client);
        all.extend(times);
    }
    let took = began.elapsed();
    all.sort_unstable();
    Ok((took, all))
}

/// Argon2id at its standard cost on one core: what a login cannot do without.
fn argon2id_per_second() -> Result<f64> {
    let argon2 = Cost::STANDARD.argon2()?;
    let (mut out, mut failed) = ([0; 32], false);
    let rate = repeat(1, || failed |= argon2.hash_password_into(b"a password", &[7; 16], &mut out).is_err());
    ensure!(!failed, "Argon2id cannot be measured");
    Ok(rate)
}

/// Runs all parts one after the other and prints one table.
pub async fn measure(args: &BenchAuth) -> Result<()> {
    ensure!((1..=64).contains(&args.clients), "--clients is 1 to 64");
    ensure!((1..=600).contains(&args.seconds), "--seconds is 1 to 600");
    let random = Random::system();
    let mut table = Table::new();
    let limits = Limits::measure(&random)?;
    limits.show(&mut table);
    let argon2id = argon2id_per_second()?;
    table.add(Figure::new("Argon2id, 19 MiB, 2 passes", argon2id, "/s"));
    let stack = Stack::start_with("bench", false, &random, apps::give_page).await?;
    let measured = of_stack(args, &stack, (&limits, argon2id), &mut table, &random).await;
    stack.stop().await?;
    measured?;
    table.print(args.json.as_deref())
}

async fn of_stack(
    args: &BenchAuth,
    stack: &Stack,
    (limits, argon2id): (&Limits, f64),
    table: &mut Table,
    random: &Random,
) -> Result<()> {
    let auth = Endpoint::new(&stack.url("auth")?)?;
    let agencies = Agencies::approved(&auth, stack, args.clients, random).await?;
    let app = App::registered(&auth, stack).await?;
    let mut clients = Vec::new();
    for client in 0..args.clients {
        let programs = agencies.programs(&auth, client, random).await?;
        clients.push(Client::sign_up(&auth, programs, app.clone(), random).await?);
    }
    let span = Duration::from_secs(args.seconds);
    table.part(&format!("auth, {} clients at once", args.clients));
    for (name, work, limit, of) in [
        ("logins", Work::LogIn, argon2id, "one core's Argon2id"),
        ("token checks", Work::Check, limits.ed25519_per_second, "one core's Ed25519"),
        ("refreshes", Work::Refresh, limits.syncs_per_second, "one fsync after the other"),
        ("client credentials", Work::Credentials, limits.syncs_per_second, "one fsync after the other"),
        ("codes of apps", Work::Exchange, limits.syncs_per_second, "one fsync after the other"),
        ("tokens of devices", Work::DeviceTokens, limits.syncs_per_second, "one fsync after the other"),
        ("introspections", Work::Introspect, limits.syncs_per_second, "one fsync after the other"),
    ] {
        let (took, times) = all_at_once(&mut clients, work, span, random).await?;
        let rate = per_second(times.len(), took);
        table.add(Figure::new(name, rate, "/s").limit(format!("{} × {of}", ratio(rate, limit))));
        table.latency(name, &times, None);
    }
    Ok(())
}
