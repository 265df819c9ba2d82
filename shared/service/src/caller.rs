//! Who calls, as a handler's argument: [`Public`], [`Caller`], [`Patient`], [`Agency`], [`Operator`].
//!
//! The only place a token is taken from is `Authorization: Bearer`.

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::{LocalBoxFuture, Ready, ready};
use hbc_types::Timestamp;
use hbc_types::account::Role;
use hbc_types::ids::{AccountId, AgencyId, OperatorId, PatientId, SessionId};
use hbc_types::problem::Slug;
use hbc_types::purpose::Purpose;
use hbc_types::secret::SecretText;
use hbc_types::wire::token::{AccessClaims, ClientClaims, STEP_UP_SECONDS};

use crate::{Problem, TokenError, TokenVerifier};

/// Marks an operation that anybody may call.
#[derive(Clone, Copy, Debug)]
pub struct Public;

impl FromRequest for Public {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;
    fn from_request(_request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Ok(Self))
    }
}

/// Any account with a valid token.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The account.
    pub account: AccountId,
    /// Its role.
    pub role: Role,
    /// The login session.
    pub session: SessionId,
    /// When credentials were last checked, Unix seconds.
    pub auth_time: i64,
    /// How they were checked.
    pub amr: Vec<String>,
    /// Whether the account has a second factor.
    pub second_factor: bool,
    /// Why an agency asks unless it says something else.
    pub usual_purpose: Option<Purpose>,
    /// The client that acts for the account, and what it may: only [`Acting`] callers have one.
    pub client: Option<ClientClaims>,
    /// The token itself, to be sent along with calls made on the account's behalf.
    pub token: SecretText,
}

impl Caller {
    /// Asks whose account has a second factor for having shown it lately: a token that was left lying about is not enough.
    pub fn check_step_up(&self, now: Timestamp) -> Result<(), Problem> {
        let lately = now.seconds().saturating_sub(self.auth_time) <= STEP_UP_SECONDS;
        // A code, or a passkey, which its owner opened by PIN or finger.
        let shown = || self.amr.iter().any(|way| way == "otp" || way == "user");
        if !self.second_factor || (lately && shown()) {
            return Ok(());
        }
        Err(Problem::new(Slug::StepUp))
    }

    /// Asks whoever it is for having shown credentials lately, with the second factor of who has one: for what outlives the session.
    pub fn check_shown_lately(&self, now: Timestamp) -> Result<(), Problem> {
        if now.seconds().saturating_sub(self.auth_time) > STEP_UP_SECONDS {
            return Err(Problem::new(Slug::StepUp));
        }
        self.check_step_up(now)
    }

    fn new(claims: AccessClaims, token: String) -> Self {
        Self {
            account: claims.sub,
            role: claims.role,
            session: claims.sid,
            auth_time: claims.auth_time,
            amr: claims.amr,
            second_factor: claims.second_factor,
            usual_purpose: claims.usual_purpose,
            client: claims.client,
            token: SecretText::new(token),
        }
    }
}

/// A caller, or nobody when no credentials were sent; bad credentials are still refused.
#[derive(Clone, Debug)]
pub struct MaybeCaller(pub Option<Caller>);

/// An account, or a client that acts for one. For the routes below `/fhir`, which ask what the client may, and for what storage
/// asks in their name.
#[derive(Clone, Debug)]
pub struct Acting(pub Caller);

impl FromRequest for Acting {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;
    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(Self(caller(request, Whose::AccountsAndClients).await?)) })
    }
}

/// A patient.
#[derive(Clone, Debug)]
pub struct Patient {
    /// The patient's id.
    pub id: PatientId,
    /// The rest of what the token says.
    pub caller: Caller,
}

/// An agency, whatever its standing.
#[derive(Clone, Debug)]
pub struct Agency {
    /// The agency's id.
    pub id: AgencyId,
    /// The rest of what the token says.
    pub caller: Caller,
}

/// An operator of the deployment.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The operator's id.
    pub id: OperatorId,
    /// The rest of what the token says.
    pub caller: Caller,
}

fn unauthenticated() -> Problem {
    Problem::new(Slug::Unauthenticated)
}

/// The bearer token of a request: nothing if there is no `Authorization` header at all.
fn bearer(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let mut values = request.headers().get_all(AUTHORIZATION);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(unauthenticated());
    }
    let value = value.to_str().map_err(|_not_text| unauthenticated())?;
    let (scheme, token) = value.split_once(' ').ok_or_else(unauthenticated)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(unauthenticated());
    }
    Ok(Some(token.to_owned()))
}

/// Whose tokens a route takes.
#[derive(Clone, Copy)]
enum Whose {
    Accounts,
    AccountsAndClients,
}

async fn maybe_caller(request: HttpRequest, whose: Whose) -> Result<Option<Caller>, Problem> {
    let Some(token) = bearer(&request)? else { return Ok(None) };
    let Some(verifier) = request.app_data::<web::Data<TokenVerifier>>() else {
        tracing::error!("A route asks for a caller, but the server was built without a token verifier");
        return Err(Problem::new(Slug::Internal));
    };
    let verified = match whose {
        Whose::Accounts => verifier.verify(&token).await,
        Whose::AccountsAndClients => verifier.verify_any(&token).await,
    };
    match verified {
        Ok(claims) => Ok(Some(Caller::new(claims, token))),
        Err(TokenError::NoKeys) => Err(Problem::new(Slug::DependencyUnavailable)),
        Err(error) => {
            tracing::info!(token.refused = %error, "A token was refused");
            Err(unauthenticated())
        }
    }
}

async fn caller(request: HttpRequest, whose: Whose) -> Result<Caller, Problem> {
    maybe_caller(request, whose).await?.ok_or_else(unauthenticated)
}

impl FromRequest for MaybeCaller {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;
    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(Self(maybe_caller(request, Whose::Accounts).await?)) })
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;
    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        Box::pin(caller(request.clone(), Whose::Accounts))
    }
}

macro_rules! role_extractor {
    ($name:ident, $variant:ident, $who:literal) => {
        impl FromRequest for $name {
            type Error = Problem;
            type Future = LocalBoxFuture<'static, Result<Self, Problem>>;
            fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
                let request = request.clone();
                Box::pin(async move {
                    let caller = caller(request, Whose::Accounts).await?;
                    let AccountId::$variant(id) = &caller.account else {
                        return Err(Problem::new(Slug::Forbidden).detail(concat!(
                            "only ",
                            $who,
                            " may do this"
                        )));
                    };
                    Ok(Self { id: id.clone(), caller })
                })
            }
        }
    };
}

role_extractor!(Patient, Patient, "patients");
role_extractor!(Agency, Agency, "agencies");
role_extractor!(Operator, Operator, "operators");
