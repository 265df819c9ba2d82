//! The people of the cases and what they have done before.

use anyhow::{Context as _, Result};
use data_encoding::BASE32_NOPAD;
use hbc_client::operations::{auth, storage};
use hbc_testkit::clients::{ClientKey, claims};
use hbc_testkit::http::{FORM, form};
use hbc_tests::consents::new_grant;
use hbc_tests::devices::Device;
use hbc_tests::wallet::Wallet;
use hbc_tests::{Person, TestApp};
use hbc_types::Digest;
use hbc_types::account::AgencyType;
use hbc_types::ids::{AppId, AuthorizationId, PairingId, RecordId};
use hbc_types::labels::Category;
use hbc_types::secret::SecretText;
use hbc_types::wire::access::{AccessRequestView, GrantDraft, GrantView};
use hbc_types::wire::apps::AppView;
use hbc_types::wire::auth::{AgencyView, ConsentSignatureRequest, NewAgency, TotpPrepared};
use hbc_types::wire::devices::{NewDevice, PairingCode, PairingConfirmation};
use hbc_types::wire::oauth::{ClientAlgorithm, ClientView};
use serde_json::{Value, json};

/// Who tries, and what there is to try it on.
pub struct World {
    /// The stack.
    pub app: TestApp,
    /// The chain.
    pub chain: Digest,
    /// A patient with records, a grant and requests: whose things the cases are about.
    pub alice: Person,
    /// Another patient.
    pub bob: Person,
    /// A patient who holds the keys alone.
    pub carol: Person,
    /// A patient for what ends sessions and changes passwords.
    pub leaver: Person,
    /// A patient who closes the account.
    pub cleo: Person,
    /// A patient with a prepared second factor, and its secret.
    pub tess: (Person, Vec<u8>),
    /// A patient on whom the services' own calls are tried.
    pub ina: Person,
    /// A patient who lost the password, with a recovery code.
    pub rita: (Person, SecretText),
    /// The doctor with alice's grant.
    pub dora: Person,
    /// dora's agency as operators see it.
    pub dora_view: AgencyView,
    /// A doctor whom alice is about to grant something.
    pub nora: Person,
    /// A doctor in good standing with nobody's consent.
    pub otto: Person,
    /// An agency that waits for approval.
    pub pia: Person,
    /// A hospital, somebody who asked to belong to it, and two whom it took in.
    pub hope: Person,
    /// See [`World::hope`].
    pub mia: Person,
    /// See [`World::hope`].
    pub max: Person,
    /// See [`World::hope`].
    pub kim: Person,
    /// A program of [`World::hope`], and its key.
    pub client: (ClientView, ClientKey),
    /// alice's paired device, and it with a token.
    pub device: (Device, Person),
    /// A code of alice's that a device claimed, with what confirms it.
    pub claimed: (PairingId, PairingConfirmation),
    /// bob's open code.
    pub code: PairingCode,
    /// The operator.
    pub operator: Person,
    /// Third-party apps, and their questions to alice.
    pub apps: Apps,
    /// alice's grant to dora, active.
    pub grant: GrantView,
    /// A draft of alice's that waits for auth's signature.
    pub waiting: GrantDraft,
    /// dora's open requests to alice: one to be denied, one to be withdrawn.
    pub requests: [AccessRequestView; 2],
    /// alice's document.
    pub document: RecordId,
    /// alice's observation, which the grant covers.
    pub observation: String,
}

/// Third-party apps.
pub struct Apps {
    /// One that alice let in.
    pub app: AppView,
    /// One that was just registered.
    pub waiting: AppId,
    /// Two questions of the first to alice.
    pub questions: [AuthorizationId; 2],
}

/// A heart rate of this account.
pub fn observation(account: &Person) -> Value {
    json!({
        "resourceType": "Observation", "status": "final",
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}]},
        "subject": {"reference": format!("Patient/{}", account.account)},
        "effectiveDateTime": "2024-03-01T08:00:00Z",
        "valueQuantity": {"value": 61, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
    })
}

/// A program of an agency, as it is registered.
pub fn new_client(agency: &Person) -> Value {
    json!({"name": "Ward", "kind": "back-office", "jwks": ClientKey::of(ClientAlgorithm::Es384).jwks(),
        "scope": "system/*.rs", "password": agency.password})
}

async fn client(app: &TestApp, agency: &Person) -> Result<(ClientView, ClientKey)> {
    let call = app.auth.to(auth::register_client()).json(&new_client(agency));
    let client = agency.signs(call).fetch().await.context("the client was not registered")?;
    Ok((client, ClientKey::of(ClientAlgorithm::Es384)))
}

impl World {
    /// The query with which an app sends a browser.
    pub fn question(&self, app: &str) -> String {
        hbc_tests::apps::query(&self.app, app, "launch/patient patient/*.rs")
    }

    /// An assertion of the client, good once and for five minutes.
    pub fn assertion(&self) -> String {
        let ((client, key), app) = (&self.client, &self.app);
        let endpoint = format!("{}/oauth/token", app.stack().auth());
        let now = app.clock.now().seconds();
        key.sign(&key.header(), &claims(client.id.as_str(), &endpoint, now, &app.key()))
    }

    /// What a device says of itself, each time anew.
    pub fn new_device(&self) -> NewDevice {
        self.app.new_device(&ClientKey::random(&self.app.random))
    }

    /// Plays what the cases build on.
    pub async fn new(app: TestApp) -> Result<Self> {
        let chain = hbc_tests::chain::status(app.node("node-1")?).await?.chain;
        let operator = app.operator().await?;
        let alice = app.patient().await?;
        let doctor = async || -> Result<(Person, AgencyView)> {
            let doctor = app.pending_agency(AgencyType::Doctor).await?;
            let view = app.approve(&operator, doctor.agency()?).await?;
            Ok((doctor, view))
        };
        let (dora, dora_view) = doctor().await?;
        let (nora, otto) = (doctor().await?.0, doctor().await?.0);
        let hope = app.pending_agency(AgencyType::Hospital).await?;
        app.approve(&operator, hope.agency()?).await?;
        let [mia, max, kim] = [
            staff(&app, &operator, &hope).await?,
            staff(&app, &operator, &hope).await?,
            staff(&app, &operator, &hope).await?,
        ];
        for member in [&max, &kim] {
            app.take_in(&hope, member, "surgeon").await?;
        }
        let (rita, created) = app.sign_up_patient(&app.new_patient()).await?;
        let code = created.recovery_codes.first().context("no recovery codes")?.clone();

        let call = app.storage.to(storage::fhir_create("Patient")).body(
            "application/fhir+json",
            json!({"resourceType": "Patient", "gender": "female"}).to_string().into_bytes(),
        );
        alice.signs(call).done().await.context("alice's Patient")?;
        let call = app
            .storage
            .to(storage::fhir_create("Observation"))
            .body("application/fhir+json", observation(&alice).to_string().into_bytes());
        let made: Value = alice.signs(call).fetch().await.context("alice's Observation")?;
        let document = app.upload(&alice, b"%PDF-1.7 alice's letter").await?.id;
        app.until_anchored(&alice).await?;
        let grant = app.grant(&alice, &dora, app.scope(&[Category::VitalSigns])).await?;
        let requests = [
            app.ask(&dora, &alice, app.scope(&[Category::Laboratory])).await?,
            app.ask(&dora, &alice, app.scope(&[Category::Medication])).await?,
        ];
        app.until_receipts_anchored(&alice).await?;
        let unsigned = new_grant(&nora, app.scope(&[Category::Imaging]))?;
        let bob = app.patient().await?;
        let device = app.device().await?;
        app.pair(&alice, &device, &[Category::VitalSigns]).await?;
        Ok(Self {
            claimed: claimed(&app, &alice).await?,
            code: app.pairing_code(&bob).await?,
            device: (device.clone(), app.device_caller(&device).await?),
            waiting: app.draft(&alice, &unsigned).await?,
            bob,
            carol: carol(&app, &chain).await?,
            leaver: app.patient().await?,
            cleo: app.patient().await?,
            ina: app.patient().await?,
            tess: tess(&app).await?,
            rita: (rita, code),
            pia: app.pending_agency(AgencyType::Insurer).await?,
            client: client(&app, &hope).await?,
            apps: apps(&app, &operator, &alice).await?,
            hope,
            mia,
            max,
            kim,
            observation: made["id"].as_str().context("no id")?.to_owned(),
            chain,
            alice,
            dora,
            dora_view,
            nora,
            otto,
            operator,
            grant,
            requests,
            document,
            app,
        })
    }

    /// The code of tess's second factor, this much later.
    pub fn code(&self, later_seconds: u64) -> String {
        let now = self.app.clock.now().unsigned_ms() / 1000;
        let totp = totp_rs::Builder::new().with_secret(self.tess.1.clone()).with_skew(1).build_noncompliant();
        totp.generate(now + later_seconds).to_string()
    }

    /// What asks auth to sign the waiting draft, with this password.
    pub fn draft(&self, password: &SecretText) -> ConsentSignatureRequest {
        ConsentSignatureRequest {
            password: password.clone(),
            totp: None,
            payload: self.waiting.payload.clone(),
            body: self.waiting.body.clone(),
            salt: self.waiting.salt.clone(),
        }
    }
}

/// A code that another device claimed and was granted something for.
async fn claimed(app: &TestApp, patient: &Person) -> Result<(PairingId, PairingConfirmation)> {
    let device = app.device().await?;
    let id = app.claim(patient, &device).await?;
    let grant = app.grant_device(patient, &device, &[Category::VitalSigns]).await?.id;
    Ok((id, PairingConfirmation { fingerprint: device.known.fingerprint, grant }))
}

/// A doctor in good standing who asked to belong to an organisation.
async fn staff(app: &TestApp, operator: &Person, organisation: &Person) -> Result<Person> {
    let new = NewAgency {
        organisation: Some(organisation.agency()?.clone()),
        ..app.new_agency(AgencyType::Doctor)
    };
    let doctor = app.sign_up_agency(&new).await?;
    app.approve(operator, doctor.agency()?).await?;
    Ok(doctor)
}

async fn apps(app: &TestApp, operator: &Person, alice: &Person) -> Result<Apps> {
    let known = app.app(operator).await?;
    let query = hbc_tests::apps::query(app, known.id.as_str(), "launch/patient offline_access patient/*.rs");
    let let_in = app.asked(alice, &query).await?;
    let back = app.allow(alice, &let_in).await?;
    let code = back.query_pairs().find(|(name, _)| name == "code").context("no code")?.1.into_owned();
    let fields = form(&[
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", hbc_tests::apps::BACK),
        ("client_id", known.id.as_str()),
        ("code_verifier", hbc_tests::apps::VERIFIER),
    ]);
    app.auth.to(auth::grant_token()).body(FORM, fields).fetch().await.context("no token")?;
    let questions = [app.asked(alice, &query).await?.id, app.asked(alice, &query).await?.id];
    let waiting = app.app(operator).await?.id;
    Ok(Apps { app: known, waiting, questions })
}

async fn carol(app: &TestApp, chain: &Digest) -> Result<Person> {
    Ok(app.sign_up_patient(&Wallet::new(app, *chain).sign_up(app.new_patient())).await?.0)
}

async fn tess(app: &TestApp) -> Result<(Person, Vec<u8>)> {
    let tess = app.patient().await?;
    let call = app.auth.to(auth::prepare_totp()).json(&json!({"password": tess.password}));
    let prepared: TotpPrepared = tess.signs(call).fetch().await.context("no second factor")?;
    let (_, secret) = prepared.uri.expose().split_once("secret=").context("no secret in the address")?;
    let secret = secret.split('&').next().unwrap_or_default();
    Ok((tess, BASE32_NOPAD.decode(secret.as_bytes()).context("a secret that is no base 32")?))
}
