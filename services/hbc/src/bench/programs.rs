//! Agencies with programs, which prove themselves by keys of their own; and how anything proves itself by such a key.

use anyhow::{Context as _, Result};
use ed25519_dalek::SigningKey;
use hbc_client::jwt::Signer;
use hbc_client::operations::auth;
use hbc_client::{Call, Endpoint};
use hbc_types::account::AgencyType;
use hbc_types::ids::AgencyId;
use hbc_types::secret::SecretText;
use hbc_types::wire::auth::{AgencyCreated, AgencyView, Login, NewAgency, SigningPassword, Tokens};
use hbc_types::wire::oauth::{ClientKind, ClientView, JWT_BEARER, NewClient, TokenResponse};
use hbc_types::wire::token::Jwk;
use hbc_types::{Clock, Random};
use serde_json::json;

use crate::stack::Stack;

/// Programs of one agency: as many as it may have.
const EACH: usize = 10;
/// Tokens that one program may have at once.
pub const TOKENS: u32 = 20;

/// Agencies in good standing, logged in.
pub struct Agencies(Vec<(SecretText, Tokens)>);

/// A key, and who signs with it.
pub struct Key {
    id: String,
    endpoint: String,
    signer: Signer,
    random: Random,
}

/// A program and its key.
pub struct Program {
    key: Key,
    token: SecretText,
    /// Tokens that it may still get.
    left: u32,
}

impl Agencies {
    /// So many, approved by the deployment's operator.
    pub async fn approved(auth: &Endpoint, stack: &Stack, count: usize, random: &Random) -> Result<Self> {
        let (operator, operators) = operator(auth, stack).await?;
        let mut agencies = Vec::new();
        for _agency in 0..count {
            let new = new_agency(random);
            let key = hex::encode(random.bytes::<12>());
            let call = auth.to(auth::sign_up_agency()).idempotency_key(&key).json(&new);
            let created: AgencyCreated = call.fetch().await.context("an agency's sign-up failed")?;
            let word = SigningPassword { password: operator.clone(), totp: None };
            let token = operators.access_token.expose();
            let call = auth.to(auth::approve_agency(&created.id)).json(&word).bearer(token);
            call.done().await.context("an agency was not approved")?;
            until_active(auth, token, &created.id).await?;
            let login = Login { username: new.username, password: new.password.clone(), totp: None };
            let tokens = auth.to(auth::log_in()).json(&login).fetch().await.context("a login failed")?;
            agencies.push((new.password, tokens));
        }
        Ok(Self(agencies))
    }

    /// Registers the programs of one agency.
    pub async fn programs(&self, auth: &Endpoint, agency: usize, random: &Random) -> Result<Vec<Program>> {
        let agency = self.0.get(agency).context("there are fewer agencies")?;
        let mut programs = Vec::new();
        for number in 0..EACH {
            programs.push(register(auth, agency, number, random).await?);
        }
        Ok(programs)
    }
}

/// Registers a program.
async fn register(
    auth: &Endpoint,
    (password, tokens): &(SecretText, Tokens),
    number: usize,
    random: &Random,
) -> Result<Program> {
    let key = SigningKey::from_bytes(&random.bytes());
    let new = NewClient {
        name: format!("bench {number}"),
        kind: ClientKind::BackOffice,
        jwks: Some(key_set(&key)),
        jwks_uri: None,
        scope: "system/*.rs".parse().context("the scope")?,
        password: password.clone(),
        totp: None,
    };
    let call = auth.to(auth::register_client()).json(&new).bearer(tokens.access_token.expose());
    let client: ClientView = call.fetch().await.context("a program was not registered")?;
    let key = Key::of(client.id.to_string(), &key, auth, random).await?;
    Ok(Program { key, token: SecretText::new(String::new()), left: TOKENS })
}

/// The set that holds this key's public half.
pub fn key_set(key: &SigningKey) -> serde_json::Value {
    json!({"keys": [Jwk::of(key.verifying_key().as_bytes())]})
}

impl Program {
    /// Gets a token; false if it has had all that it may.
    pub async fn get_token(&mut self, auth: &Endpoint) -> Result<bool> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(false) };
        self.left = left;
        let call = auth.to(auth::grant_token()).once();
        let call = self.key.prove(call, &[("grant_type", "client_credentials")])?;
        let given: TokenResponse = call.fetch().await?;
        self.token = given.access_token;
        Ok(true)
    }

    /// Asks whether the last token is good.
    pub async fn introspect(&mut self, auth: &Endpoint) -> Result<()> {
        let call = auth.to(auth::introspect_token()).once();
        self.key.prove(call, &[("token", self.token.expose())])?.fetch().await?;
        Ok(())
    }
}

impl Key {
    /// Of who is called `id`.
    pub async fn of(id: String, key: &SigningKey, auth: &Endpoint, random: &Random) -> Result<Self> {
        let server = auth.to(auth::show_authorization_server()).fetch().await?;
        Ok(Self { id, endpoint: server.token_endpoint, signer: Signer::new(key), random: random.clone() })
    }

    /// A fresh assertion.
    pub fn assertion(&self) -> Result<SecretText> {
        let now = Clock::system().now().seconds();
        let claims = json!({
            "iss": self.id, "sub": self.id, "aud": self.endpoint, "iat": now, "exp": now + 240,
            "jti": hex::encode(self.random.bytes::<16>()),
        });
        Ok(SecretText::new(self.signer.sign("JWT", &claims)?))
    }

    /// The call with these fields and a fresh assertion. Nothing in it needs an escape but what is escaped here.
    pub fn prove<A>(&self, call: Call<A>, fields: &[(&str, &str)]) -> Result<Call<A>> {
        let (kind, assertion) = (JWT_BEARER.replace(':', "%3A"), self.assertion()?);
        let mut form = format!("client_assertion_type={kind}&client_assertion={}", assertion.expose());
        for (name, value) in fields {
            form.push_str(&format!("&{name}={value}"));
        }
        Ok(call.body("application/x-www-form-urlencoded", form))
    }
}

/// The operator's password and session.
pub async fn operator(auth: &Endpoint, stack: &Stack) -> Result<(SecretText, Tokens)> {
    #[derive(serde::Deserialize)]
    struct Logins {
        operators: Vec<Login>,
    }
    let text = std::fs::read(stack.deployment.secret("logins.json")).context("no logins are kept")?;
    let logins: Logins = serde_json::from_slice(&text).context("the logins are not readable")?;
    let login = logins.operators.into_iter().next().context("there is no operator")?;
    let tokens = auth.to(auth::log_in()).json(&login).fetch().await.context("the operator's login failed")?;
    Ok((login.password, tokens))
}

fn new_agency(random: &Random) -> NewAgency {
    let word = || hex::encode(random.bytes::<12>());
    NewAgency {
        name: "Bench".to_owned(),
        username: word(),
        password: SecretText::new(word()),
        contact_number: "+1 617 555 0100".to_owned(),
        email: "bench@practice.example".to_owned(),
        address: "1 Bench Street".to_owned(),
        agency_type: AgencyType::Insurer,
        licence_number: word(),
        organisation: None,
    }
}

async fn until_active(auth: &Endpoint, token: &str, agency: &AgencyId) -> Result<()> {
    let began = std::time::Instant::now();
    loop {
        let view: AgencyView = auth.to(auth::show_agency(agency)).bearer(token).fetch().await?;
        if view.standing == hbc_types::account::Standing::Active {
            return Ok(());
        }
        anyhow::ensure!(began.elapsed().as_secs() < 60, "the agency is not active after a minute");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
