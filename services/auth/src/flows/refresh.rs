//! New tokens for a refresh token: of a user's session, and of an app that a patient let in.

use hbc_db::Tx;
use hbc_types::account::Standing;
use hbc_types::ids::SessionId;
use hbc_types::secret::SecretText;
use hbc_types::wire::auth::Tokens;
use hbc_types::wire::oauth::TokenResponse;
use hbc_types::{Digest, Timestamp};

use crate::app::App;
use crate::domain::refresh::{GRACE, RefreshToken};
use crate::error::Error;
use crate::flows::authorizations::{self, Presented};
use crate::flows::sessions::{acting, end, stored, tokens};
use crate::jobs::push;
use crate::store::Rows;
use crate::store::accounts::Account;
use crate::store::sessions::Session;

/// What a refresh came to inside its transaction.
#[derive(Debug)]
enum Refreshed {
    /// Of a user with the account, of an app without.
    Granted(Box<(Option<Account>, Session)>),
    Reused(SessionId),
}

/// Gives new tokens for the latest refresh token of a family. The token before it still gets the same answer for ten
/// seconds; any other use of a used token ends the family.
pub async fn refresh(app: &App, token: &SecretText) -> Result<Tokens, Error> {
    let (account, session, next, now) = renewed(app, token, Asking::User).await?;
    tokens(app, &account.ok_or(Error::Unauthenticated)?, &session, &next, now)
}

/// The same at the token endpoint: of a user's session, or of an app that shows who it is.
pub async fn refresh_any(
    app: &App,
    token: &SecretText,
    presented: Option<Presented>,
    scope: Option<&str>,
) -> Result<TokenResponse, Error> {
    let (account, session, next, now) = renewed(app, token, Asking::Anybody(presented)).await?;
    let Some(account) = account else {
        return authorizations::tokens(app, &session, Some(next.write()), scope, now);
    };
    let Tokens { access_token, expires_in, refresh_token, token_type, account: _, role: _, session: _ } =
        tokens(app, &account, &session, &next, now)?;
    Ok(TokenResponse {
        access_token,
        token_type,
        expires_in,
        refresh_token: Some(refresh_token),
        scope: None,
        patient: None,
        id_token: None,
    })
}

/// Who asks for new tokens.
#[derive(Clone, Debug)]
enum Asking {
    /// A user's client: an app's token is none there.
    User,
    /// A user's client, or an app that says who it is.
    Anybody(Option<Presented>),
}

async fn renewed(
    app: &App,
    token: &SecretText,
    asking: Asking,
) -> Result<(Option<Account>, Session, RefreshToken, Timestamp), Error> {
    let token = RefreshToken::parse(token).ok_or(Error::Unauthenticated)?;
    let next = token.successor(&app.keys.refresh);
    let (now, hash, next_hash) = (app.clock.now(), token.hash(), next.hash());
    let job_app = app.clone();
    let outcome = app
        .store
        .write(move |tx, rows| {
            Box::pin(async move { rotate(&job_app, (tx, &rows), (hash, next_hash), &asking, now).await })
        })
        .await?;
    match outcome {
        Refreshed::Granted(granted) => Ok((granted.0, granted.1, next, now)),
        Refreshed::Reused(session) => {
            tracing::warn!(session.id = %session, "A refresh token was used twice: its family is dead");
            push::told(app, session.as_str()).await?;
            Err(Error::TokenReused)
        }
    }
}

async fn rotate(
    app: &App,
    (tx, rows): (&mut Tx, &Rows),
    (hash, next_hash): (Digest, Digest),
    asking: &Asking,
    now: Timestamp,
) -> Result<Refreshed, Error> {
    let mut token = rows.token(&mut *tx, hash).await?.ok_or(Error::Unauthenticated)?;
    let mut session = rows.session(&mut *tx, token.session.as_str()).await?.ok_or(Error::Unauthenticated)?;
    if !session.is_live(now) {
        let told = token.used_at.is_some() && !is_of_a_closed_account(rows, tx, &session).await?;
        return Err(if told { Error::TokenReused } else { Error::Unauthenticated });
    }
    let account = if session.let_in().is_some() {
        let Asking::Anybody(presented) = asking else { return Err(Error::Unauthenticated) };
        authorizations::may_go_on(rows, tx, &session, presented.as_ref()).await?;
        None
    } else {
        Some(acting(rows, tx, session.account.as_str()).await?)
    };
    match token.used_at {
        None if now >= token.expires_at => return Err(Error::Unauthenticated),
        None => {
            token.used_at = Some(now);
            rows.use_token(tx, &token).await?;
            rows.insert_token(tx, &stored(app, &session, next_hash, now)).await?;
            session.used(now);
            rows.use_session(tx, &session).await?;
        }
        Some(used_at) => {
            let next = rows.token(&mut *tx, next_hash).await?;
            let unused = next.is_some_and(|next| next.used_at.is_none());
            if !unused || now.since(used_at) > GRACE {
                let id = session.id.clone();
                end(rows, tx, session, "reuse", now).await?;
                return Ok(Refreshed::Reused(id));
            }
        }
    }
    Ok(Refreshed::Granted(Box::new((account, session))))
}

/// Whether whoever signed in, or let an app in, closed the account since: its tokens are as unknown as any others.
async fn is_of_a_closed_account(rows: &Rows, tx: &mut Tx, session: &Session) -> Result<bool, Error> {
    let owner =
        session.let_in().map_or_else(|| session.account.to_string(), |let_in| let_in.patient.to_string());
    Ok(rows.account(tx, &owner).await?.is_some_and(|owner| owner.standing == Standing::Closed))
}
