//! Clients at work while the power fails. Each notes what was acknowledged, and what it does not know because no answer
//! came; afterwards it looks whether the one is there, and brings the other to an end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use hbc_client::operations::{access_policy, auth, storage};
use hbc_tests::records::refusal;
use hbc_tests::{Person, TestApp, wait};
use hbc_types::Digest;
use hbc_types::ids::GrantId;
use hbc_types::labels::Category;
use hbc_types::secret::SecretText;
use hbc_types::wire::access::{AccessKind, GrantState, GrantView};
use hbc_types::wire::auth::{NewPassword, NewPatient, PatientCreated, Refresh, Tokens};

/// Whether there is power.
#[derive(Debug, Default)]
pub struct Power {
    cut: AtomicBool,
}

impl Power {
    /// It fails now: from here on it is nobody's fault that a call does.
    pub fn fail(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Works until the power fails; answers how often the work was done. Before that, no error is forgiven.
    pub async fn work(&self, done: &AtomicU32, mut once: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        loop {
            match once().await {
                Ok(()) => done.fetch_add(1, Ordering::SeqCst),
                Err(_) if self.cut.load(Ordering::SeqCst) => return Ok(()),
                Err(error) => return Err(error.context("with the power on")),
            };
        }
    }
}

/// Somebody who uploads.
pub struct Uploads {
    patient: Person,
    records: BTreeMap<String, Vec<u8>>,
    /// No answer came: key and content.
    open: Option<(String, Vec<u8>)>,
}

impl Uploads {
    pub async fn begin(app: &TestApp) -> Result<Self> {
        Ok(Self { patient: app.patient().await?, records: BTreeMap::new(), open: None })
    }

    pub async fn once(&mut self, app: &TestApp) -> Result<()> {
        // From a line to some hundred blocks.
        let length = 1_usize << (self.records.len() % 10 * 2).min(18);
        let mut content = format!("%PDF {}", self.records.len()).into_bytes();
        content.resize(content.len() + length, b' ');
        let key = app.key();
        self.open = Some((key.clone(), content.clone()));
        let call = app.storage.to(storage::create_record()).header("idempotency-key", &key);
        let call = call.body("application/pdf", content.clone());
        let created = self.patient.signs(call).once().fetch().await?;
        self.records.insert(created.id.to_string(), content);
        self.open = None;
        Ok(())
    }

    pub async fn afterwards(&mut self, app: &TestApp) -> Result<()> {
        if let Some((key, content)) = self.open.take() {
            let created = app.insist(&self.patient, &key, &content).await?;
            self.records.insert(created.id.to_string(), content);
        }
        app.has_exactly(&self.patient, &self.records).await
    }

    pub async fn in_the_end(&self, app: &TestApp) -> Result<usize> {
        app.anchored_once(&self.patient).await?;
        Ok(self.records.len())
    }
}

/// Somebody who reads what a patient granted: no answer without a receipt.
pub struct Reads {
    patient: Person,
    doctor: Person,
    record: String,
    released: usize,
}

impl Reads {
    const CONTENT: &[u8] = b"%PDF what is read";

    pub async fn begin(app: &TestApp, doctor: Person) -> Result<Self> {
        let patient = app.patient().await?;
        let record = app.upload(&patient, Self::CONTENT).await?.id.to_string();
        app.grant(&patient, &doctor, app.scope(&[Category::Document])).await?;
        Ok(Self { patient, doctor, record, released: 0 })
    }

    pub async fn once(&mut self, app: &TestApp) -> Result<()> {
        let read = app.received(&self.doctor, &self.record, "TREAT").await?;
        ensure!(read == Self::CONTENT, "what was read has other bytes");
        self.released += 1;
        Ok(())
    }

    pub async fn afterwards(&mut self, app: &TestApp) -> Result<()> {
        let log = app.accesses(&self.patient).await?;
        let of_reads = log.iter().filter(|line| line.receipt.kind == AccessKind::Read).count();
        ensure!(of_reads >= self.released, "{} reads were answered, {of_reads} have receipts", self.released);
        let numbers: BTreeSet<_> = log.iter().map(|line| line.receipt.n).collect();
        let all = (1..=u64::try_from(log.len())?).collect();
        ensure!(numbers == all, "of {} receipts some have other numbers: {numbers:?}", log.len());
        self.once(app).await
    }

    pub async fn in_the_end(&self, app: &TestApp) -> Result<usize> {
        app.until_receipts_anchored(&self.patient).await?;
        Ok(self.released)
    }
}

/// A patient who grants and revokes, over and over.
pub struct Consents {
    patient: Person,
    doctor: Person,
    record: String,
    revoked: Vec<GrantId>,
    now: Standing,
}

/// Whether the doctor may read, as far as the patient knows.
enum Standing {
    Denied,
    Allowed(Box<GrantView>),
    /// No answer came.
    Unknown,
}

impl Consents {
    pub async fn begin(app: &TestApp, doctor: Person) -> Result<Self> {
        let patient = app.patient().await?;
        let record = app.upload(&patient, Reads::CONTENT).await?.id.to_string();
        Ok(Self { patient, doctor, record, revoked: Vec::new(), now: Standing::Denied })
    }

    pub async fn once(&mut self, app: &TestApp) -> Result<()> {
        match std::mem::replace(&mut self.now, Standing::Unknown) {
            Standing::Allowed(grant) => {
                self.revoke(app, &grant).await?;
            }
            Standing::Denied | Standing::Unknown => {
                let scope = app.scope(&[Category::Document]);
                let grant = app.grant(&self.patient, &self.doctor, scope).await?;
                self.now = Standing::Allowed(Box::new(grant));
            }
        }
        self.stands(app).await
    }

    async fn revoke(&mut self, app: &TestApp, grant: &GrantView) -> Result<()> {
        app.revoke(&self.patient, grant).await?;
        self.revoked.push(grant.id.clone());
        self.now = Standing::Denied;
        Ok(())
    }

    /// The doctor reads, or is refused.
    async fn stands(&self, app: &TestApp) -> Result<()> {
        let read = app.received(&self.doctor, &self.record, "TREAT").await;
        match (&self.now, read) {
            (Standing::Unknown, _) => Ok(()),
            (Standing::Allowed(_), read) => {
                read.context("a grant that was acknowledged does not act")?;
                Ok(())
            }
            (Standing::Denied, read) => {
                let status = refusal(read, "a read after the revocation")?;
                ensure!(matches!(status, 403 | 404), "it was refused with {status}");
                Ok(())
            }
        }
    }

    pub async fn afterwards(&mut self, app: &TestApp) -> Result<()> {
        self.stands(app).await?;
        for grant in &self.revoked {
            let view = app.grant_view(&self.patient, grant).await?;
            ensure!(view.state == GrantState::Revoked, "{grant} was revoked and is {}", view.state);
        }
        // What is still in force, or on its way, ends now.
        let page = self.patient.signs(app.access.to(access_policy::list_grants())).fetch().await?;
        for grant in page.items {
            if matches!(grant.state, GrantState::Pending | GrantState::Active) {
                let grant = app.until_grant(&self.patient, &grant.id, GrantState::Active).await?;
                self.revoke(app, &grant).await?;
            }
        }
        self.now = Standing::Denied;
        self.stands(app).await
    }

    pub async fn in_the_end(&self, app: &TestApp) -> Result<usize> {
        for grant in &self.revoked {
            wait::until("the revocation is final", || async {
                Ok(app.grant_view(&self.patient, grant).await?.revoked_by)
            })
            .await?;
        }
        Ok(self.revoked.len())
    }
}

/// People who sign up, change their passwords, refresh sessions and end them.
#[derive(Default)]
pub struct Accounts {
    accounts: Vec<Account>,
    /// No answer came to this sign-up.
    open: Option<(String, NewPatient)>,
    /// How many of them were looked at after an earlier cut.
    looked_at: usize,
}

struct Account {
    username: String,
    password: SecretText,
    /// A password that was replaced.
    former: Option<SecretText>,
    /// A password to which no answer came.
    maybe: Option<SecretText>,
    ended: Vec<Tokens>,
    open: Option<Tokens>,
}

impl Accounts {
    pub async fn once(&mut self, app: &TestApp) -> Result<()> {
        let (key, new) = (app.key(), app.new_patient());
        self.open = Some((key.clone(), new.clone()));
        self.sign_up(app, &key, &new).await?;
        self.open = None;
        let account = self.accounts.last_mut().context("nobody signed up")?;
        let first = account.log_in(app).await?;
        app.auth.to(auth::log_out()).once().bearer(first.access_token.expose()).done().await?;
        account.ended.push(first);
        let session = account.log_in(app).await?;
        let refresh = Refresh { refresh_token: session.refresh_token.clone() };
        let session: Tokens = app.auth.to(auth::refresh_session()).json(&refresh).once().fetch().await?;
        let replacing = app.password();
        account.maybe = Some(replacing.clone());
        let asked =
            NewPassword { password: account.password.clone(), totp: None, new_password: replacing.clone() };
        let call = app.auth.to(auth::set_password()).once().json(&asked);
        call.bearer(session.access_token.expose()).done().await?;
        account.maybe = None;
        account.former = Some(std::mem::replace(&mut account.password, replacing));
        account.open = Some(session);
        Ok(())
    }

    async fn sign_up(&mut self, app: &TestApp, key: &str, new: &NewPatient) -> Result<()> {
        let call = app.auth.to(auth::sign_up_patient()).idempotency_key(key).json(new);
        let _created: PatientCreated = call.fetch().await.context("the sign-up failed")?;
        self.accounts.push(Account {
            username: new.username.clone(),
            password: new.password.clone(),
            former: None,
            maybe: None,
            ended: Vec::new(),
            open: None,
        });
        Ok(())
    }

    pub async fn afterwards(&mut self, app: &TestApp) -> Result<()> {
        if let Some((key, new)) = self.open.take() {
            self.sign_up(app, &key, &new).await?;
        }
        for account in &mut self.accounts[self.looked_at..] {
            account.stands(app).await.with_context(|| account.username.clone())?;
        }
        self.looked_at = self.accounts.len();
        Ok(())
    }

    pub async fn in_the_end(&mut self, app: &TestApp) -> Result<usize> {
        for account in &mut self.accounts {
            account.stands(app).await.with_context(|| account.username.clone())?;
        }
        Ok(self.accounts.len())
    }
}

impl Account {
    async fn log_in(&self, app: &TestApp) -> Result<Tokens> {
        Ok(app.try_login(&self.username, self.password.expose()).await?)
    }

    /// The password opens, the former one does not, ended sessions stay ended and the other one goes on.
    async fn stands(&mut self, app: &TestApp) -> Result<()> {
        if let Some(maybe) = self.maybe.take()
            && app.try_login(&self.username, maybe.expose()).await.is_ok()
        {
            self.former = Some(std::mem::replace(&mut self.password, maybe));
        }
        self.log_in(app).await.context("the password that was acknowledged")?;
        if let Some(former) = self.former.take() {
            let status =
                refusal(app.try_login(&self.username, former.expose()).await, "the former password")?;
            ensure!(status == 401, "the former password was refused with {status}");
        }
        for tokens in &self.ended {
            let refresh = Refresh { refresh_token: tokens.refresh_token.clone() };
            let refreshed = app.auth.to(auth::refresh_session()).json(&refresh).once().fetch().await;
            ensure!(
                refusal(refreshed, "refreshing an ended session")? == 401,
                "an ended session was refreshed"
            );
            let grants = app.access.to(access_policy::list_grants()).bearer(tokens.access_token.expose());
            let status = refusal(grants.send().await, "an ended session")?;
            ensure!(matches!(status, 401 | 403), "an ended session was refused with {status}");
        }
        if let Some(session) = &mut self.open {
            let refresh = Refresh { refresh_token: session.refresh_token.clone() };
            *session = app
                .auth
                .to(auth::refresh_session())
                .json(&refresh)
                .fetch()
                .await
                .context("the session that goes on")?;
        }
        Ok(())
    }
}

/// Somebody who gives the nodes transactions and keeps their promises.
#[derive(Default)]
pub struct Promises {
    promised: BTreeSet<Digest>,
}

impl Promises {
    pub async fn once(&mut self, app: &TestApp) -> Result<()> {
        let (_, node) = app.nodes.get(self.promised.len() % app.nodes.len()).context("no node")?;
        self.promised.insert(app.promise(node).await?);
        Ok(())
    }

    pub async fn in_the_end(&self, app: &TestApp) -> Result<usize> {
        app.promised_once(&self.promised).await?;
        if self.promised.is_empty() {
            bail!("nothing was promised");
        }
        Ok(self.promised.len())
    }
}
