//! Sign-up, approval, login: people with sessions.

use anyhow::{Context as _, Result, bail};
use hbc_client::operations::{access_policy, auth};
use hbc_client::{Call, ClientError};
use hbc_types::account::{AgencyType, Custody, Standing};
use hbc_types::ids::{AccountId, AgencyId, PatientId};
use hbc_types::problem::Slug;
use hbc_types::secret::SecretText;
use hbc_types::wire::Page;
use hbc_types::wire::auth::{
    AgencyCreated, AgencyView, Contact, Decision, Login, Me, MemberStanding, MemberView, NewAgency,
    NewMember, NewPatient, PatientCreated, SigningPassword, Tokens,
};

use crate::TestApp;
use crate::wait::until;

/// Somebody with a session.
#[derive(Clone, Debug)]
pub struct Person {
    /// The account.
    pub account: AccountId,
    /// Its username.
    pub username: String,
    /// Its password.
    pub password: SecretText,
    /// The session's tokens as login gave them.
    pub tokens: Tokens,
}

impl Person {
    /// A call in this person's name.
    pub fn signs<A>(&self, call: Call<A>) -> Call<A> {
        call.bearer(self.token())
    }

    /// The access token.
    #[must_use]
    pub fn token(&self) -> &str {
        self.tokens.access_token.expose()
    }

    /// The patient behind the account.
    pub fn patient(&self) -> Result<&PatientId> {
        match &self.account {
            AccountId::Patient(id) => Ok(id),
            other => bail!("{other} is no patient"),
        }
    }

    /// The agency behind the account.
    pub fn agency(&self) -> Result<&AgencyId> {
        match &self.account {
            AccountId::Agency(id) => Ok(id),
            other => bail!("{other} is no agency"),
        }
    }
}

impl TestApp {
    /// A username that nobody has: the word with random digits.
    #[must_use]
    pub fn username(&self, word: &str) -> String {
        format!("{word}.{}", hex::encode(self.random.bytes::<6>()))
    }

    /// A password that nobody chose.
    #[must_use]
    pub fn password(&self) -> SecretText {
        SecretText::new(hex::encode(self.random.bytes::<12>()))
    }

    /// The first operator, logged in.
    pub async fn operator(&self) -> Result<Person> {
        let login = self.stack().operator()?;
        let operator = self.login(&login.username, &login.password).await?;
        until("access-policy knows the operator", || async {
            let call =
                self.storage.get("/v1/records?patient=dir&limit=1").header("hbc-purpose", "TREAT").once();
            let answer = operator.signs(call).done().await;
            let unknown = answer.is_err_and(|error| error.slug() == Some(Slug::Suspended));
            Ok((!unknown).then_some(()))
        })
        .await?;
        Ok(operator)
    }

    /// Logs in.
    pub async fn login(&self, username: &str, password: &str) -> Result<Person> {
        let tokens = self.try_login(username, password).await.context("login failed")?;
        Ok(Person {
            account: tokens.account.clone(),
            username: username.to_owned(),
            password: SecretText::new(password.to_owned()),
            tokens,
        })
    }

    /// Logs in, or says why not.
    pub async fn try_login(&self, username: &str, password: &str) -> Result<Tokens, ClientError> {
        let password = SecretText::new(password.to_owned());
        let login = Login { username: username.to_owned(), password, totp: None };
        self.auth.to(auth::log_in()).json(&login).fetch().await
    }

    /// A patient's sign-up in server custody, to be changed as a test likes.
    #[must_use]
    pub fn new_patient(&self) -> NewPatient {
        NewPatient {
            username: self.username("patient"),
            password: self.password(),
            contact: Contact::default(),
            custody: Custody::Server,
            root_public_key: None,
            root_pop: None,
            recovery_public_key: None,
            recovery_pop: None,
        }
    }

    /// A patient, known to every service, logged in.
    pub async fn patient(&self) -> Result<Person> {
        Ok(self.sign_up_patient(&self.new_patient()).await?.0)
    }

    /// Signs a patient up, waits until access-policy knows them, and logs in.
    pub async fn sign_up_patient(&self, new: &NewPatient) -> Result<(Person, PatientCreated)> {
        let call = self.auth.to(auth::sign_up_patient()).idempotency_key(&self.key()).json(new);
        let created: PatientCreated = call.fetch().await.context("the sign-up failed")?;
        let person = self.login(&new.username, new.password.expose()).await?;
        self.until_active(&person).await?;
        Ok((person, created))
    }

    /// Waits until the account stands as active.
    pub async fn until_active(&self, person: &Person) -> Result<()> {
        until(format!("{} is active", person.account), || async {
            let me: Me = person.signs(self.auth.to(auth::show_me())).fetch().await?;
            Ok((me.standing == Standing::Active).then_some(()))
        })
        .await
    }

    /// An agency's sign-up, to be changed as a test likes.
    #[must_use]
    pub fn new_agency(&self, agency_type: AgencyType) -> NewAgency {
        let username = self.username(agency_type.code());
        NewAgency {
            name: format!("Practice {username}"),
            password: self.password(),
            contact_number: "+1 617 555 0100".to_owned(),
            email: format!("{username}@practice.example"),
            address: "12 Harbour Street, Boston".to_owned(),
            agency_type,
            licence_number: format!("MA-{}", hex::encode(self.random.bytes::<4>())),
            organisation: None,
            username,
        }
    }

    /// An agency that waits for approval, logged in.
    pub async fn pending_agency(&self, agency_type: AgencyType) -> Result<Person> {
        self.sign_up_agency(&self.new_agency(agency_type)).await
    }

    /// Signs an agency up and logs it in; it stays pending.
    pub async fn sign_up_agency(&self, new: &NewAgency) -> Result<Person> {
        let call = self.auth.to(auth::sign_up_agency()).idempotency_key(&self.key()).json(new);
        let created: AgencyCreated = call.fetch().await.context("the sign-up failed")?;
        anyhow::ensure!(created.standing == Standing::Pending, "an agency begins {}", created.standing);
        self.login(&new.username, new.password.expose()).await
    }

    /// A doctor in good standing, logged in.
    pub async fn doctor(&self) -> Result<Person> {
        self.active_agency(AgencyType::Doctor).await
    }

    /// An agency in good standing, logged in.
    pub async fn active_agency(&self, agency_type: AgencyType) -> Result<Person> {
        let agency = self.pending_agency(agency_type).await?;
        self.approve(&self.operator().await?, agency.agency()?).await?;
        until("access-policy knows of the approval", || async {
            let call = self.access.to(access_policy::list_access_requests());
            Ok(agency.signs(call).once().done().await.is_ok().then_some(()))
        })
        .await?;
        Ok(agency)
    }

    /// The operator approves the agency; answers it active, its staff profile final on the ledger.
    pub async fn approve(&self, operator: &Person, agency: &AgencyId) -> Result<AgencyView> {
        let call = self.auth.to(auth::approve_agency(agency)).json(&signature(operator));
        operator.signs(call).done().await.context("the approval failed")?;
        until(format!("{agency} is active"), || async {
            let call = self.auth.to(auth::show_agency(agency));
            let view: AgencyView = operator.signs(call).fetch().await?;
            Ok((view.standing == Standing::Active).then_some(view))
        })
        .await
    }

    /// The organisation takes somebody in who asked; answers once that is final.
    pub async fn take_in(
        &self,
        organisation: &Person,
        member: &Person,
        function: &str,
    ) -> Result<MemberView> {
        let (password, function) = (organisation.password.clone(), function.to_owned());
        let new = NewMember { function, password, totp: None };
        let call = self.auth.to(auth::take_in_member(member.agency()?)).json(&new);
        organisation.signs(call).done().await.context("nobody was taken in")?;
        until(format!("{} is a member", member.account), || async {
            let page: Page<MemberView> =
                organisation.signs(self.auth.to(auth::list_members())).fetch().await?;
            let is_final =
                |view: &MemberView| view.final_at.is_some() && view.standing == MemberStanding::Active;
            let agency = member.agency()?;
            Ok(page.items.into_iter().find(|view| view.agency == *agency && is_final(view)))
        })
        .await
    }

    /// The operator suspends the agency.
    pub async fn suspend(&self, operator: &Person, agency: &AgencyId) -> Result<()> {
        let call = self.auth.to(auth::suspend_agency(agency)).json(&decision(operator));
        operator.signs(call).done().await.context("the suspension failed")
    }
}

/// An operator's decision, with the password typed again.
#[must_use]
pub fn decision(operator: &Person) -> Decision {
    Decision { password: operator.password.clone(), totp: None, reason: "the licence ran out".to_owned() }
}

/// An operator's word, with the password typed again.
#[must_use]
pub fn signature(operator: &Person) -> SigningPassword {
    SigningPassword { password: operator.password.clone(), totp: None }
}
