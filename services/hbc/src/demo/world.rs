//! What every part of the story shares: the running stack, its addresses, and who is logged in.

use anyhow::{Context as _, Result};
use hbc_client::operations::auth;
use hbc_client::{Call, ClientError, Endpoint};
use hbc_types::Random;
use hbc_types::ids::{AccountId, AgencyId, PatientId};
use hbc_types::secret::SecretText;
use hbc_types::wire::auth::{Login, Tokens};

use super::console::Console;
use crate::stack::Stack;

/// The stage.
pub struct World {
    /// Where the story is told.
    pub console: Console,
    /// The running deployment.
    pub stack: Stack,
    /// auth.
    pub auth: Endpoint,
    /// access-policy.
    pub access: Endpoint,
    /// storage.
    pub storage: Endpoint,
    /// The ledger nodes by name.
    pub nodes: Vec<(String, Endpoint)>,
    random: Random,
}

/// Somebody with a session.
pub struct Person {
    /// The account.
    pub account: AccountId,
    /// Its access token.
    pub token: SecretText,
    /// Its password, for what needs a fresh check of it.
    pub password: SecretText,
}

impl World {
    /// The stage of a running stack.
    pub fn new(console: Console, stack: Stack, random: Random) -> Result<Self> {
        let endpoint = |name: &str| -> Result<Endpoint> { Ok(Endpoint::new(&stack.url(name)?)?) };
        let names = stack.settings.services.iter().map(|service| service.name.clone());
        let nodes = names.filter(|name| name.starts_with("node-"));
        let nodes = nodes.map(|name| endpoint(&name).map(|node| (name, node))).collect::<Result<_>>()?;
        Ok(Self {
            auth: endpoint("auth")?,
            access: endpoint("access-policy")?,
            storage: endpoint("storage")?,
            nodes,
            console,
            stack,
            random,
        })
    }

    /// A fresh `Idempotency-Key`.
    pub fn key(&self) -> String {
        hex::encode(self.random.bytes::<16>())
    }

    /// A password that nobody chose.
    pub fn password(&self) -> SecretText {
        SecretText::new(hex::encode(self.random.bytes::<12>()))
    }

    /// Logs in.
    pub async fn login(&self, username: &str, password: &SecretText) -> Result<Person> {
        let login = Login { username: username.to_owned(), password: password.clone(), totp: None };
        let tokens: Tokens =
            self.auth.to(auth::log_in()).json(&login).fetch().await.context("login failed")?;
        Ok(Person { account: tokens.account, token: tokens.access_token, password: password.clone() })
    }
}

impl Person {
    /// A call in this person's name.
    pub fn signs<A>(&self, call: Call<A>) -> Call<A> {
        call.bearer(self.token.expose())
    }

    /// The patient behind the account.
    pub fn patient(&self) -> Result<PatientId> {
        match &self.account {
            AccountId::Patient(id) => Ok(id.clone()),
            other => anyhow::bail!("{other} is no patient"),
        }
    }

    /// The agency behind the account.
    pub fn agency(&self) -> Result<AgencyId> {
        match &self.account {
            AccountId::Agency(id) => Ok(id.clone()),
            other => anyhow::bail!("{other} is no agency"),
        }
    }
}

/// The HTTP status with which a call was refused; an accepted call or another fault is an error.
pub fn refusal<T>(result: Result<T, ClientError>, what: &str) -> Result<u16> {
    match result {
        Ok(_) => anyhow::bail!("{what} was not refused"),
        Err(error) => match error.status() {
            Some(status @ (401 | 403 | 404)) => Ok(status),
            _ => Err(error).with_context(|| format!("{what} failed in another way")),
        },
    }
}
