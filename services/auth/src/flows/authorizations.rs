//! Apps and patients: an app asks, the patient answers, the app exchanges the code of a yes for tokens. What it may read with them
//! is decided at access-policy by the grant that the patient signed; nothing here gives a right.
//!
//! Why: decision 0128.

use std::time::Duration;

use hbc_app::jobs::enqueue;
use hbc_db::{Lock, Tx};
use hbc_service::Caller;
use hbc_types::Timestamp;
use hbc_types::account::{Role, Standing};
use hbc_types::ids::{AccountId, AppId, AuthorizationId, OAuthClientId, PatientId, SessionId};
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::{Action, Purpose};
use hbc_types::scope::{ScopeWord, Scopes};
use hbc_types::secret::SecretText;
use hbc_types::wire::access::Scope;
use hbc_types::wire::apps::{AppAccess, AuthorizationDecision, AuthorizationStep, AuthorizationView};
use hbc_types::wire::auth::Denial;
use hbc_types::wire::oauth::{Introspection, TokenResponse};
use hbc_types::wire::token::{ACCESS_SECONDS, AccessClaims, ClientClaims};

use crate::app::App;
use crate::config::AppSettings;
use crate::domain::authorization::{self, Code, Query, Step, answer, question};
use crate::domain::refresh::RefreshToken;
use crate::domain::token::{Amr, Bearer, IdClaims};
use crate::error::Error;
use crate::flows::apps;
use crate::flows::clients::{ClientProof, Taken, good, known_app, shown};
use crate::flows::registered::unknown;
use crate::flows::sessions::{acting, current, end, stored};
use crate::jobs::{TellSession, push};
use crate::store::Rows;
use crate::store::apps::App as StoredApp;
use crate::store::authorizations::Authorization;
use crate::store::sessions::{LetIn, Session, Told};

/// How long a question can be answered.
const QUESTION: Duration = Duration::from_secs(10 * 60);
/// How long a code is good (RFC 6749 §4.1.2: ten minutes at most).
const CODE: Duration = Duration::from_secs(60);
/// How long an app may go on at most.
const LONGEST: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long one may that goes on while the patient is there.
const ONLINE: Duration = Duration::from_secs(12 * 3600);
/// Open questions of one patient.
const MOST: usize = 20;
/// Questions to one patient within a day.
const A_DAY: i64 = 200;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Sessions of apps that one patient has let in.
const MOST_LET_IN: usize = 50;

/// Takes an app's question to the patient who came with it. One whose app or return address is not known goes nowhere; of any
/// other fault the app is told.
pub async fn ask(
    app: &App,
    caller: &Caller,
    patient: &PatientId,
    query: &str,
) -> Result<AuthorizationStep, Error> {
    current(app, caller).await?;
    let settings = settings(app)?;
    let query = Query::parse(query)
        .ok_or_else(|| Error::invalid("query", "names a parameter twice, or has more than 4,096 bytes"))?;
    let unknown = || Error::invalid("query", "`client_id` is no app that is registered here");
    let stored = match query.app() {
        Some(id) => app.store.rows.app(app.store.db.reads(), &id).await?.ok_or_else(unknown)?,
        None => return Err(unknown()),
    };
    if stored.standing != Standing::Active {
        return Err(unknown());
    }
    let uri =
        query.get("redirect_uri").filter(|uri| authorization::may_answer_at(&stored.redirect_uris, uri));
    let uri = uri.ok_or_else(|| Error::invalid("query", "`redirect_uri` is none that the app registered"))?;
    let asked = match question(&query, &stored.scopes, &settings.fhir_url) {
        Ok(asked) => asked,
        Err(refused) => {
            let words = [("error", refused.error), ("error_description", refused.words)];
            let redirect = answer(uri, query.state(), app.issuer.issuer(), &words);
            return Ok(AuthorizationStep { authorization: None, redirect: Some(redirect) });
        }
    };
    let now = app.clock.now();
    let new = Authorization {
        id: AuthorizationId::random(&app.random),
        patient: patient.clone(),
        app: stored.id.clone(),
        redirect_uri: uri.to_owned(),
        scopes: asked.scopes,
        state: query.state().map(str::to_owned),
        nonce: asked.nonce,
        fhir_url: asked.fhir_url,
        challenge: asked.challenge,
        step: Step::Asked,
        created_at: now,
        expires_at: now.plus(QUESTION),
        until: now.plus(LONGEST),
        code_hash: None,
        session: None,
        version: 1,
    };
    let view = view(&new, &stored, now);
    let asked = app.store.write(move |tx, rows| {
        Box::pin(async move {
            acting(&rows, tx, new.patient.as_str()).await?;
            if rows.open_authorizations(tx, &new.patient, now).await?.len() >= MOST {
                return Err(Error::TooManyAttempts(QUESTION));
            }
            if rows.authorizations_since(tx, &new.patient, now.minus(DAY)).await? >= A_DAY {
                return Err(Error::TooManyAttempts(DAY));
            }
            Ok(rows.insert_authorization(tx, &new).await?)
        })
    });
    asked.await?;
    Ok(AuthorizationStep { authorization: Some(view), redirect: None })
}

fn settings(app: &App) -> Result<&AppSettings, Error> {
    app.apps.as_ref().ok_or(Error::Conflict("this deployment has no page for apps"))
}

fn view(asked: &Authorization, stored: &StoredApp, now: Timestamp) -> AuthorizationView {
    AuthorizationView {
        id: asked.id.clone(),
        app: apps::view(stored),
        redirect_origin: authorization::origin(&asked.redirect_uri),
        access: access(&asked.scopes, now),
        offline: asked.scopes.say(ScopeWord::OfflineAccess),
        scope: asked.scopes.clone(),
        expires_at: asked.expires_at,
    }
}

/// What to grant for these scopes: no more, and nothing sensitive unless the patient adds it.
fn access(scopes: &Scopes, now: Timestamp) -> Scope {
    let all = || Category::ALL.iter().copied().filter(|category| *category != Category::Directory).collect();
    Scope {
        actions: vec![Action::Read],
        categories: scopes.categories().map_or_else(all, |reached| reached.into_iter().collect()),
        sensitivities: vec![Sensitivity::Normal],
        purposes: vec![Purpose::PatientRequest],
        from: now,
        until: now.plus(LONGEST),
        future_records: true,
    }
}

/// A question to this patient that can still be answered.
pub async fn show(
    app: &App,
    caller: &Caller,
    patient: &PatientId,
    id: &AuthorizationId,
) -> Result<AuthorizationView, Error> {
    current(app, caller).await?;
    let now = app.clock.now();
    let found = app.store.rows.authorization(app.store.db.reads(), id).await?;
    let asked = found
        .filter(|asked| asked.patient == *patient && asked.step == Step::Asked && now < asked.expires_at);
    let asked = asked.ok_or(Error::NotFound)?;
    Ok(view(&asked, &apps::find(app, &asked.app).await?, now))
}

/// The patient's answer: where to send the browser now. It is given once.
pub async fn decide(
    app: &App,
    caller: &Caller,
    (patient, id): (&PatientId, &AuthorizationId),
    decision: AuthorizationDecision,
) -> Result<SecretText, Error> {
    let (account, _session) = current(app, caller).await?;
    let AuthorizationDecision { allow, scope, until } = decision;
    let (id, patient, now) = (id.clone(), patient.clone(), app.clock.now());
    let code = Code::random(&app.random);
    let hash = code.hash();
    let decided = app.store.write(move |tx, rows| {
        Box::pin(async move {
            acting(&rows, tx, account.id.as_str()).await?;
            let found = rows.authorization(&mut *tx, &id).await?;
            let mut asked = found.filter(|asked| asked.patient == patient).ok_or(Error::NotFound)?;
            if asked.step != Step::Asked || now >= asked.expires_at {
                return Err(Error::Conflict(
                    "it was answered, or can be answered no more: the app asks again",
                ));
            }
            let stored = rows.app(&mut *tx, &asked.app).await?.ok_or(Error::NotFound)?;
            if stored.standing != Standing::Active {
                return Err(Error::Conflict("the app may not ask any more"));
            }
            if !allow {
                asked.step = Step::Denied;
                rows.step_authorization(tx, &mut asked).await?;
                return Ok(asked);
            }
            if rows.app_sessions(&mut *tx, &patient, now).await?.len() >= MOST_LET_IN {
                return Err(Error::Conflict("fifty apps are let in: send one away first"));
            }
            if let Some(scope) = scope {
                if !scope.are_within(&asked.scopes) {
                    return Err(Error::invalid("scope", "is more than the app asks for"));
                }
                asked.scopes = scope;
            }
            if let Some(until) = until {
                if until <= now || until > asked.until {
                    return Err(Error::invalid("until", "is past, or later than in ninety days"));
                }
                asked.until = until;
            }
            (asked.step, asked.expires_at, asked.code_hash) = (Step::Allowed, now.plus(CODE), Some(hash));
            rows.step_authorization(tx, &mut asked).await?;
            Ok(asked)
        })
    });
    let asked = decided.await?;
    let (state, issuer) = (asked.state.as_deref(), app.issuer.issuer());
    let written = code.write();
    let words = match asked.step {
        Step::Allowed => ("code", written.expose()),
        Step::Asked | Step::Denied | Step::Used => ("error", "access_denied"),
    };
    Ok(answer(&asked.redirect_uri, state, issuer, &[words]))
}

/// What an app comes with for its code.
#[derive(Clone, Debug)]
pub struct Exchange<'a> {
    /// `code`.
    pub code: &'a SecretText,
    /// `code_verifier`.
    pub verifier: &'a SecretText,
    /// `redirect_uri`: the one of the question.
    pub redirect_uri: &'a str,
}

/// Who an app's request says it is: a public one by its name alone, a confidential one by an assertion, which the transaction
/// takes.
#[derive(Clone, Debug)]
pub struct Presented {
    /// Which app.
    pub id: AppId,
    /// Its assertion.
    taken: Option<Taken>,
}

impl Presented {
    /// The app, which may act and has shown what it must.
    async fn app(&self, rows: &Rows, tx: &mut Tx) -> Result<StoredApp, Error> {
        let stored = rows.app(&mut *tx, &self.id).await?.filter(|stored| stored.standing == Standing::Active);
        let stored = stored.ok_or(Error::InvalidClient("no such app"))?;
        match (&self.taken, &stored.jwks) {
            (None, None) => Ok(stored),
            (None, Some(_)) => Err(Error::InvalidClient("this app proves itself by a signed assertion")),
            // Checked under keys that have gone since.
            (Some(taken), _) if taken.version != stored.version => Err(unknown()),
            (Some(taken), _) => match rows.take_assertion(tx, taken.id, taken.until).await? {
                true => Ok(stored),
                false => Err(Error::InvalidClient("the assertion was used before")),
            },
        }
    }
}

/// Reads who an app says it is.
pub async fn present(app: &App, proof: ClientProof<'_>) -> Result<Presented, Error> {
    if proof.assertion.is_some() || proof.kind.is_some() {
        let (id, taken) = known_app(app, proof).await?;
        return Ok(Presented { id, taken: Some(taken) });
    }
    let id = proof.client_id.and_then(|id| AppId::parse(id).ok());
    let id = id.ok_or(Error::InvalidClient("`client_id` names the app"))?;
    Ok(Presented { id, taken: None })
}

/// The same of a refresh, where nobody need say it: a user's client is no app, whatever it calls itself.
pub async fn maybe_present(app: &App, proof: ClientProof<'_>) -> Result<Option<Presented>, Error> {
    let is_app = proof.client_id.is_some_and(|id| AppId::parse(id).is_ok());
    if proof.assertion.is_some() || is_app { present(app, proof).await.map(Some) } else { Ok(None) }
}

/// Whether an assertion is an app's.
#[must_use]
pub fn shows_itself(proof: &ClientProof<'_>) -> bool {
    shown(proof).is_ok_and(|assertion| AppId::parse(assertion.client()).is_ok())
}

/// Whether a token is good now, for the confidential app that it is of.
pub async fn introspect(
    app: &App,
    proof: ClientProof<'_>,
    claims: Option<AccessClaims>,
) -> Result<Introspection, Error> {
    let presented = present(app, proof).await?;
    let now = app.clock.now();
    let looked = app.store.write(move |tx, rows| {
        Box::pin(async move {
            let account = AccountId::App(presented.app(&rows, tx).await?.id);
            let Some(claims) = claims.filter(|claims| claims.sub == account) else { return Ok(None) };
            let session = rows.session(tx, claims.sid.as_str()).await?;
            Ok(session.is_some_and(|session| session.is_live_for(&account, now)).then_some(claims))
        })
    });
    Ok(looked.await?.map(good).unwrap_or_default())
}

/// What a code came to inside its transaction.
enum Exchanged {
    Opened(Box<(Session, Authorization, Option<RefreshToken>)>),
    /// It was used before: what it opened is over.
    Replayed(Option<SessionId>),
}

/// Gives tokens for a code, once (RFC 6749 §4.1.3). A code that comes again ends what it opened (§4.1.2).
pub async fn exchange(app: &App, presented: Presented, with: Exchange<'_>) -> Result<TokenResponse, Error> {
    let code = Code::parse(with.code).ok_or(Error::Unauthenticated)?.hash();
    let (verifier, uri) = (with.verifier.clone(), with.redirect_uri.to_owned());
    let (this, now) = (app.clone(), app.clock.now());
    let locks = vec![Lock::shared(presented.id.as_str())];
    let exchanged = app.store.write_locked(locks, move |tx, rows| {
        Box::pin(async move {
            let stored_app = presented.app(&rows, tx).await?;
            let asked = rows.authorization_by_code(tx, code).await?.ok_or(Error::Unauthenticated)?;
            if asked.app != stored_app.id || asked.redirect_uri != uri {
                return Err(Error::Unauthenticated);
            }
            if asked.step == Step::Used {
                if let Some(id) = &asked.session
                    && let Some(session) = rows.session(&mut *tx, id.as_str()).await?
                    && session.ended_at.is_none()
                {
                    end(&rows, tx, session, "reuse", now).await?;
                }
                return Ok(Exchanged::Replayed(asked.session));
            }
            let good = asked.step == Step::Allowed && now < asked.expires_at && now < asked.until;
            if !good || !authorization::verifies(verifier.expose(), &asked.challenge) {
                return Err(Error::Unauthenticated);
            }
            open(&this, (tx, &rows), asked, now).await
        })
    });
    match exchanged.await? {
        Exchanged::Opened(opened) => {
            let (session, asked, refresh) = *opened;
            // Without its knowing, access-policy takes the tokens for forged.
            push::told(app, session.id.as_str()).await?;
            let mut answer = tokens(app, &session, refresh.map(|token| token.write()), None, now)?;
            if asked.scopes.say(ScopeWord::OpenId) {
                answer.id_token = Some(id_token(app, &asked, now)?);
            }
            Ok(answer)
        }
        Exchanged::Replayed(session) => {
            tracing::warn!("A code was used twice: what it opened is over");
            if let Some(session) = session {
                push::told(app, session.as_str()).await?;
            }
            Err(Error::Unauthenticated)
        }
    }
}

async fn open(
    app: &App,
    (tx, rows): (&mut Tx, &Rows),
    mut asked: Authorization,
    now: Timestamp,
) -> Result<Exchanged, Error> {
    acting(rows, tx, asked.patient.as_str()).await?;
    let offline = asked.scopes.say(ScopeWord::OfflineAccess);
    let online = asked.scopes.say(ScopeWord::OnlineAccess);
    let one_token = Duration::from_secs(u64::try_from(ACCESS_SECONDS).unwrap_or(600));
    let life = if offline {
        LONGEST
    } else if online {
        ONLINE
    } else {
        one_token
    };
    let session = Session {
        id: SessionId::random(&app.random),
        account: AccountId::App(asked.app.clone()),
        amr: Amr::Key,
        auth_time: now,
        expires_at: asked.until.min(now.plus(life)),
        ended_at: None,
        end_reason: None,
        told: Some(Told {
            created_at: now,
            last_used_at: now,
            client: None,
            oauth_client: Some(OAuthClientId::App(asked.app.clone())),
            passkey: None,
            let_in: Some(LetIn { patient: asked.patient.clone(), scopes: asked.scopes.clone() }),
        }),
    };
    rows.insert_session(tx, &session).await?;
    let refresh = (offline || online).then(|| RefreshToken::random(&app.random));
    if let Some(token) = &refresh {
        rows.insert_token(tx, &stored(app, &session, token.hash(), now)).await?;
    }
    enqueue::<TellSession>(tx, &session.id, now).await?;
    (asked.step, asked.session) = (Step::Used, Some(session.id.clone()));
    // As long as what it opened: a code that comes again ends that.
    asked.expires_at = session.expires_at;
    rows.step_authorization(tx, &mut asked).await?;
    Ok(Exchanged::Opened(Box::new((session, asked, refresh))))
}

/// Whether an app's session may go on, for the app that shows itself. A public one need not say which it is: it could show nothing
/// for it, and the token says it (RFC 6749 §6).
pub async fn may_go_on(
    rows: &Rows,
    tx: &mut Tx,
    session: &Session,
    presented: Option<&Presented>,
) -> Result<(), Error> {
    let (AccountId::App(id), Some(let_in)) = (&session.account, session.let_in()) else {
        return Err(Error::Unauthenticated);
    };
    let of_token = Presented { id: id.clone(), taken: None };
    let presented = presented.unwrap_or(&of_token);
    if presented.id != *id {
        return Err(Error::Unauthenticated);
    }
    presented.app(rows, tx).await?;
    acting(rows, tx, let_in.patient.as_str()).await?;
    Ok(())
}

/// Tokens of an app's session; for narrower scopes if it asks so (RFC 6749 §6).
pub fn tokens(
    app: &App,
    session: &Session,
    refresh: Option<SecretText>,
    scope: Option<&str>,
    now: Timestamp,
) -> Result<TokenResponse, Error> {
    let LetIn { patient, scopes } = session.let_in().ok_or(Error::Unauthenticated)?.clone();
    let scope = match scope {
        None => scopes,
        Some(text) => {
            let asked = Scopes::parse(text).map_err(|error| Error::InvalidScope(error.to_string()))?;
            if !asked.are_within(&scopes) {
                return Err(Error::InvalidScope(format!("the patient allowed: {scopes}")));
            }
            // Whether the patient need be there is not the app's to say.
            asked.with_words_of(&scopes)
        }
    };
    let AccountId::App(id) = session.account.clone() else { return Err(Error::Unauthenticated) };
    let left = session.expires_at.since(now).as_secs();
    let life = u32::try_from(left.min(u64::try_from(ACCESS_SECONDS).unwrap_or(600))).unwrap_or(0);
    let bearer = Bearer {
        account: session.account.clone(),
        role: Role::App,
        session: session.id.clone(),
        auth_time: session.auth_time,
        amr: session.amr,
        second_factor: false,
        usual_purpose: None,
        client: Some(ClientClaims {
            client_id: OAuthClientId::App(id),
            scope: scope.clone(),
            purpose: Some(Purpose::PatientRequest),
            patient: Some(patient.clone()),
        }),
    };
    Ok(TokenResponse {
        access_token: app.issuer.issue_for(&bearer, i64::from(life), now, &app.random)?,
        token_type: "Bearer".to_owned(),
        expires_in: life,
        refresh_token: refresh,
        scope: Some(scope),
        patient: Some(patient),
        id_token: None,
    })
}

/// Who signed in (OpenID Connect Core 1.0 §2), with SMART's `fhirUser`.
fn id_token(app: &App, asked: &Authorization, now: Timestamp) -> Result<SecretText, Error> {
    let user = asked.scopes.say(ScopeWord::FhirUser);
    let claims = IdClaims {
        iss: app.issuer.issuer().to_owned(),
        sub: asked.patient.clone(),
        aud: asked.app.clone(),
        iat: now.seconds(),
        exp: now.seconds() + ACCESS_SECONDS,
        nonce: asked.nonce.clone(),
        fhir_user: user.then(|| format!("{}/Patient/{}", asked.fhir_url, asked.patient)),
    };
    Ok(app.issuer.issue_id(&claims)?)
}

/// The apps that a patient let in, the last one first.
pub async fn let_in(app: &App, caller: &Caller, patient: &PatientId) -> Result<Vec<AppAccess>, Error> {
    current(app, caller).await?;
    let now = app.clock.now();
    let mut sessions = app.store.rows.app_sessions(app.store.db.reads(), patient, now).await?;
    sessions.sort_by_key(|session| std::cmp::Reverse(session.told.as_ref().map(|told| told.created_at)));
    let all = app.store.rows.apps(app.store.db.reads()).await?;
    let mut items = Vec::new();
    for session in sessions {
        let (Some(told), AccountId::App(id)) = (session.told, &session.account) else { continue };
        let (Some(let_in), Some(stored)) = (told.let_in, all.iter().find(|stored| stored.id == *id)) else {
            continue;
        };
        items.push(AppAccess {
            app: apps::view(stored),
            scope: let_in.scopes,
            allowed_at: told.created_at,
            until: session.expires_at,
            last_used_at: told.last_used_at,
        });
    }
    Ok(items)
}

/// Sends an app away: its tokens for this patient are good no more, and its codes neither. Doing it again changes nothing. The
/// grant is ended by its revocation.
pub async fn send_away(
    app: &App,
    caller: &Caller,
    (patient, id): (&PatientId, &AppId),
) -> Result<Denial, Error> {
    current(app, caller).await?;
    let (patient, id, now) = (patient.clone(), id.clone(), app.clock.now());
    let locks = vec![Lock::exclusive(id.as_str())];
    let ended = app.store.write_locked(locks, move |tx, rows| {
        Box::pin(async move { send_away_in(&rows, tx, &patient, Some(&id), now).await })
    });
    Ok(Denial { since: now, effective: push::all_told(app, &ended.await?).await? })
}

/// The same of all apps that somebody may have let in who was not the patient.
pub async fn send_away_in(
    rows: &Rows,
    tx: &mut Tx,
    patient: &PatientId,
    only: Option<&AppId>,
    now: Timestamp,
) -> Result<Vec<SessionId>, Error> {
    for mut asked in rows.open_authorizations(tx, patient, now).await? {
        if only.is_none_or(|only| *only == asked.app) {
            asked.step = Step::Denied;
            rows.step_authorization(tx, &mut asked).await?;
        }
    }
    let mut ended = Vec::new();
    for session in rows.app_sessions(&mut *tx, patient, now).await? {
        if only.is_none_or(|only| session.account == AccountId::App(only.clone())) {
            ended.push(session.id.clone());
            end(rows, tx, session, "removed", now).await?;
        }
    }
    Ok(ended)
}
