//! The first operators: accounts are made at start from `operators.json`; existing ones are left alone.

use anyhow::Context as _;
use hbc_app::jobs::enqueue;
use hbc_service::config::SecretFile;
use hbc_types::account::{Role, Standing};
use hbc_types::ids::AccountId;
use hbc_types::wire::auth::Contact;

use crate::app::App;
use crate::domain::bootstrap::{OperatorEntry, OperatorsFile};
use crate::domain::custody::KeyUse;
use crate::domain::input::Username;
use crate::error::Error;
use crate::jobs::TellStanding;
use crate::store::StoreError;
use crate::store::accounts::Account;
use crate::store::wrapped_keys::WrappedKey;

/// Makes the accounts of `file` that do not exist yet.
pub async fn import(app: &App, file: &SecretFile) -> anyhow::Result<()> {
    let text = file.text()?;
    let file: OperatorsFile = serde_json::from_str(text.expose()).context("operators.json cannot be read")?;
    for entry in &file.operators {
        let made = import_one(app, entry).await.with_context(|| format!("operator `{}`", entry.id))?;
        if made {
            tracing::info!(account.id = %entry.id, "An operator's account was made");
        }
    }
    Ok(())
}

async fn import_one(app: &App, entry: &OperatorEntry) -> anyhow::Result<bool> {
    let id = AccountId::Operator(entry.id.clone());
    match app.store.rows.account(app.store.db.reads(), id.as_str()).await {
        Ok(None) => {}
        // One whose row is not what auth wrote is refused, and keeps nobody else out.
        Ok(Some(_)) | Err(StoreError::Tampered(_) | StoreError::SetBack(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let username = Username::parse(&entry.username).context("the username is not one")?;
    let (cost, wrapped) = entry.signing_key.parse()?;
    let now = app.clock.now();
    let account = Account {
        id,
        role: Role::Operator,
        username: username.as_str().to_owned(),
        password_hash: entry.password_hash.clone(),
        standing: Standing::Active,
        revision: 1,
        contact: Contact::default(),
        custody: None,
        public_key: entry.public_key()?,
        agency_type: None,
        organisation: None,
        licence_number: None,
        profile: None,
        staff_round: 0,
        created_at: now,
        password_changed_at: now,
        second_factor_at: None,
        version: 0,
        reason: None,
        recovery_public_key: None,
        root_certificate: None,
        ended_at: None,
    };
    let key = WrappedKey {
        account: account.id.as_str().to_owned(),
        key_use: KeyUse::Operator,
        cost,
        wrapped,
        created_at: now,
    };
    app.store
        .write(move |tx, rows| {
            Box::pin(async move {
                rows.insert_account(tx, &account).await?;
                rows.put_wrapped_key(tx, &key).await?;
                Ok::<_, Error>(enqueue::<TellStanding>(tx, &account.id, now).await?)
            })
        })
        .await?;
    Ok(true)
}
