//! Creating FHIR resources and documents: read, look up, plan, write; again when a conflicting request was first.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use hbc_service::idempotency::WriteConflict as _;
use hbc_types::Timestamp;
use hbc_types::classify;
use hbc_types::ids::{PatientId, RecordId};
use hbc_types::labels::Category;
use hbc_types::purpose::Purpose;
use hbc_types::saved::SavedAnswer;
use hbc_types::secret::SecretText;

use crate::app::{App, blocking};
use crate::domain::bundle::{Bundle, Criteria, Draft, Known, Outcome, Plan, Setting, plan};
use crate::error::Error;
use crate::flows::upload::{self, Stored, Upload};
use hbc_types::json;

/// How often an upload is planned anew because a conflicting request created one of its conditional records first.
const ATTEMPTS: usize = 5;

/// Who creates, for whom and why.
#[derive(Clone, Debug)]
pub struct Author {
    /// The account, or the directory.
    pub account: PatientId,
    /// The caller's token.
    pub token: SecretText,
    /// Why.
    pub purpose: Purpose,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Created {
    /// One per entry.
    pub outcomes: Vec<Outcome>,
    /// The records that were written, in the order that [`Outcome::Created`] counts.
    pub stored: Vec<Stored>,
    /// When.
    pub now: Timestamp,
    /// The applied form, where one resource was written.
    pub applied: Option<Bytes>,
}

impl Created {
    /// The record of an outcome, with whether it was written now.
    #[must_use]
    pub fn record<'a>(&'a self, outcome: &'a Outcome) -> Option<(&'a str, &'a RecordId, bool)> {
        match outcome {
            Outcome::Created(index) => {
                self.stored.get(*index).map(|stored| (stored.kind.as_str(), &stored.id, true))
            }
            Outcome::Existing { kind, id } => Some((kind, id, false)),
            Outcome::Refused(_) => None,
        }
    }
}

/// Reads a bundle and validates its resources.
pub async fn read_bundle(app: &App, body: Bytes) -> Result<Bundle, Error> {
    let app = app.clone();
    blocking(move || {
        let node = json::parse(&body)?;
        Ok::<Bundle, Error>(Bundle::read(&body, &node, &app.bases)?)
    })
    .await
}

/// Reads one resource, of the type that the path names.
pub async fn read_single(
    app: &App,
    body: Bytes,
    kind: String,
    condition: Option<Criteria>,
) -> Result<Bundle, Error> {
    let app = app.clone();
    blocking(move || {
        let node = json::parse(&body)?;
        if node.get_text("resourceType") != Some(kind.as_str()) {
            return Err(Error::invalid("resourceType", format!("must be `{kind}`")));
        }
        Ok(Bundle::single(&body, &node, condition, &app.bases)?)
    })
    .await
}

/// Creates what a bundle asks for. `save` makes the answer to be kept under the request's `Idempotency-Key`.
pub async fn create(
    app: &App,
    author: &Author,
    body: &Bytes,
    bundle: Bundle,
    save: impl Fn(&Created) -> Option<SavedAnswer>,
) -> Result<Created, Error> {
    let bundle = Arc::new(bundle);
    let mut attempt = 1;
    loop {
        let now = app.clock.now();
        let known = look_up(app, &author.account, &bundle).await?;
        let Plan { drafts, outcomes } = {
            let (bundle, random) = (Arc::clone(&bundle), app.random.clone());
            let setting = Setting { account: author.account.clone(), now };
            blocking(move || plan(&bundle, &known, &setting, || RecordId::random(&random))).await?
        };
        let applied = match drafts.as_slice() {
            [only] => applied(body, only),
            _ => None,
        };
        let created = |stored: &[Stored]| Created {
            outcomes: outcomes.clone(),
            stored: stored.to_vec(),
            now,
            applied: applied.clone(),
        };
        if drafts.is_empty() {
            return Ok(created(&[]));
        }
        let written = write(app, author, body, drafts, now, |stored| save(&created(stored))).await;
        match written {
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            outcome => return Ok(created(&outcome?)),
        }
    }
}

fn applied(body: &Bytes, draft: &Draft) -> Option<Bytes> {
    draft.overlay.apply(body.get(draft.received.clone())?).ok().map(Bytes::from)
}

/// Writes drafts.
pub async fn write(
    app: &App,
    author: &Author,
    body: &Bytes,
    drafts: Vec<Draft>,
    now: Timestamp,
    save: impl FnOnce(&[Stored]) -> Option<SavedAnswer>,
) -> Result<Vec<Stored>, Error> {
    let upload = Upload {
        account: author.account.clone(),
        token: author.token.clone(),
        purpose: author.purpose,
        body: body.clone(),
        drafts,
        now,
    };
    upload::write(app, upload, save).await
}

/// What the store knows of a bundle's conditions and references: in the account, and for the directory's types there.
async fn look_up(app: &App, account: &PatientId, bundle: &Bundle) -> Result<Known, Error> {
    let directory = PatientId::directory();
    // The Patient first: its identifiers were committed together with it, so the look-up after this one finds them.
    let patient = match account.is_directory() {
        true => None,
        false => app.store.patient_record(&app.index.patient(account)).await?,
    };
    let criteria: Vec<Criteria> = bundle.criteria().into_iter().collect();
    let mut tokens = HashMap::new();
    for criteria in &criteria {
        let mut token = |scope: &PatientId| {
            tokens
                .insert(app.index.identifier(scope, &criteria.kind, &criteria.identifier), criteria.clone());
        };
        token(account);
        if classify::type_category(&criteria.kind) == Some(Category::Directory) {
            token(&directory);
        }
    }
    let wanted: Vec<String> = tokens.keys().cloned().collect();
    let mut matches: HashMap<Criteria, Vec<RecordId>> = HashMap::new();
    for (token, records) in app.store.find_identified(&wanted).await? {
        if let Some(criteria) = tokens.get(&token) {
            matches.entry(criteria.clone()).or_default().extend(records);
        }
    }
    Ok(Known { matches, patient })
}
