//! The same verdict that a call would get, with its reasons and without its effects.

use hbc_db::Tx;
use hbc_types::ids::{AccountId, SessionId};
use hbc_types::wire::access::{ExplainRequest, Explanation, Labels};

use crate::app::{App, Who};
use crate::domain::decision::Verdict;
use crate::domain::policy::SessionState;
use crate::error::Error;
use crate::flows::decide::{Asked, ask, refusal_rule, verdicts};
use crate::flows::requests::active_caller;

/// `POST /v1/explain`.
pub async fn explain(app: &App, who: &Who, request: &ExplainRequest) -> Result<Explanation, Error> {
    app.read(async |tx| explain_in(app, tx, who, request).await).await
}

async fn explain_in(
    app: &App,
    tx: &mut Tx,
    who: &Who,
    request: &ExplainRequest,
) -> Result<Explanation, Error> {
    let now = app.clock.now();
    active_caller(app, tx, who, now).await?;
    let subject = subject(who, request)?;
    let mut asked = ask(app, tx, &subject, &request.patient, now).await?;
    let own_records = who.account == AccountId::Patient(request.patient.clone());
    if !own_records && !asked.is_known() {
        // Not even a verdict: it would tell whether there is such a patient.
        return Err(Error::NotFound);
    }
    if subject.account != who.account {
        // Somebody else's session is not known; it is taken as alive.
        asked.principal.session = SessionState::Open;
    }
    if let Some(error) = asked.refusal() {
        let denied = Verdict::Denied { rule: refusal_rule(&error).to_owned(), grant: None };
        return Ok(explanation(&asked, &denied));
    }
    let labels = Labels { category: request.category, sensitivity: request.sensitivity };
    let labels = std::iter::once(labels);
    let verdicts = verdicts(app, &asked, &request.patient, request.action, request.purpose, labels, now);
    let verdict = verdicts.into_values().next().ok_or(Error::NotFound)?;
    Ok(explanation(&asked, &verdict))
}

/// Whom the question is about: agencies ask about themselves; patients, for their own records, about anybody.
fn subject(who: &Who, request: &ExplainRequest) -> Result<Who, Error> {
    let Some(agency) = &request.agency else { return Ok(who.clone()) };
    let account = AccountId::Agency(agency.clone());
    let own_records = who.account == AccountId::Patient(request.patient.clone());
    if account != who.account && !own_records {
        return Err(Error::NotFound);
    }
    let session = if account == who.account { who.session.clone() } else { nobody()? };
    Ok(Who { account, session, bound: None })
}

fn nobody() -> Result<SessionId, Error> {
    SessionId::parse("ses-00000000000000000000000000000000").map_err(|_unreachable| Error::NotFound)
}

fn explanation(asked: &Asked, verdict: &Verdict) -> Explanation {
    let grant = verdict.grant().cloned();
    let txid = grant
        .as_ref()
        .and_then(|id| asked.candidates.iter().find(|candidate| candidate.id == *id))
        .and_then(|candidate| candidate.txid);
    let created_before = match verdict {
        Verdict::Allowed { limit, .. } => limit.as_ref().map(|limit| limit.created_before),
        Verdict::Denied { .. } => None,
    };
    Explanation {
        allowed: verdict.is_allowed(),
        rule: verdict.rule().to_owned(),
        grant,
        txid,
        created_before,
        consent_version: asked.rights.as_ref().map_or(0, |rights| rights.pin.consent_version),
    }
}
